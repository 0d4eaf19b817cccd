"""An OpenSSH client configuration, read by `ssh -G`, and host keys from a known_hosts file, by `ssh-keygen -F`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from irflow.adapters.secret_environment import without_secrets
from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.model import Json

_CALL_S = 10.0
_MOST_NESTED = 16
"""How deep OpenSSH follows `Include` (readconf.h, READCONF_MAX_DEPTH)."""
_KEYS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def files(path: Path) -> list[Path]:
    """The file and those that it includes."""
    return [one for one, _ in _lines(path)]


def read(path: Path, known_hosts: Path | None) -> dict[str, dict[str, Json]]:
    """Every host that a `Host` line names in full; patterns only add to those.

    known_hosts: accepted keys are taken from there; certificates of host authorities are not supported.
    Raises ServiceMissing, and ConfigurationError with what OpenSSH says.
    """
    names = dict.fromkeys(
        name
        for _, lines in _lines(path)
        for words in lines
        if words and words[0].lower() == "host"
        for name in words[1:]
        if not set(name) & set("*?!")
    )
    return {name: _fields(path, name, known_hosts, names) for name in names}


def _lines(path: Path, depth: int = 0) -> Iterator[tuple[Path, list[list[str]]]]:
    """Each file with the words of its lines; included files too."""
    lines = [_words(line) for line in path.read_text(errors="replace").splitlines()]
    yield path, lines
    for words in lines:
        if words and words[0].lower() == "include" and depth < _MOST_NESTED:
            for pattern in words[1:]:
                for one in _matching(Path.home() / ".ssh" / Path(pattern).expanduser()):
                    yield from _lines(one, depth + 1)


def _matching(pattern: Path) -> list[Path]:
    """Files of an absolute pattern, as `Include` finds them: relative ones are below ~/.ssh."""
    return sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))


def _words(line: str) -> list[str]:
    """`Keyword value value`, or `Keyword=value`; none for a comment."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return []
    if words and "=" in words[0]:
        first, _, second = words[0].partition("=")
        words[:1] = [first, *([second] if second else [])]
    return [word for word in words if word != "="]


def _fields(path: Path, name: str, known_hosts: Path | None, names: dict[str, None]) -> dict[str, Json]:
    said: dict[str, list[str]] = {}
    for line in _run("ssh", "-T", "-G", "-F", str(path), name, where=path).splitlines():
        keyword, _, value = line.partition(" ")
        said.setdefault(keyword, []).append(value)
    port, user = int(said["port"][0]), said["user"][0]
    fields: dict[str, Json] = {"address": said["hostname"][0], "port": port, "user": user}
    if user != "root":
        fields["sudo"] = True
    keys = [Path(one).expanduser() for one in said.get("identityfile", ())]
    key = next((one for one in keys if one.exists()), None)
    if key is not None:
        fields["key"] = f"file:{key}"
    certificates = [Path(one).expanduser() for one in said.get("certificatefile", ())]
    certificate = next((one for one in certificates if one.exists()), None)
    if certificate is not None:
        fields["certificate"] = str(certificate)
    jump = said.get("proxyjump", ["none"])[0]
    if jump in names:
        fields["jump"] = jump
    elif jump != "none":
        hint = f"Give the jump host a Host line of its own in {path}"
        raise ConfigurationError(f"ProxyJump of {name} leads over {jump!r}, which is no host here", hint=hint)
    if known_hosts is not None:
        fields["host_keys"] = _host_keys(known_hosts, fields["address"], port)
    return fields


def _host_keys(path: Path, address: str, port: int) -> list[str]:
    entry = address if port == 22 else f"[{address}]:{port}"
    words = [line.split() for line in _run("ssh-keygen", "-F", entry, "-f", str(path), fails=True).splitlines()]
    return list(dict.fromkeys(f"{one[1]} {one[2]}" for one in words if len(one) >= 3 and one[1] in _KEYS))


def _run(program: str, *arguments: str, where: Path | None = None, fails: bool = False) -> str:
    """What an OpenSSH program prints. fails: that it finds nothing is no error."""
    if shutil.which(program) is None:
        raise ServiceMissing(f"{program} is not installed", hint="Install it: apt install openssh-client")
    done = subprocess.run(
        [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_CALL_S, check=False,
        env=without_secrets(os.environ),
    )  # fmt: skip
    if done.returncode != 0 and not fails:
        said = done.stderr.strip().splitlines() or ["it failed"]
        raise ConfigurationError(f"{program}: {said[-1]}", where=str(where) if where else None, hint="Mend it there")
    return done.stdout
