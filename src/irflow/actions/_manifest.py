"""Manifests of integrity.sh: what they cover, where baselines lie, and how two of them differ."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from irflow.actions._remote import call
from irflow.core.action import Context
from irflow.core.errors import IrflowError
from irflow.core.model import Json

SCRIPT = "integrity.sh"
FOLDER = "baselines"
"""Where baselines lie in the evidence store, beside the incidents' own folders."""

# Start-up files, accounts, keys, scheduled jobs and the programs that an intruder replaces to stay or to hide;
# `meta:` is far cheaper: names, sizes, owners and modes without content.
PATHS = (
    "/etc", "/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/var/spool/cron", "meta:/usr/bin",
    *(f"/usr/bin/{program}" for program in (
        "bash", "dash", "ps", "ls", "ss", "find", "grep", "su", "sudo", "passwd", "login", "ssh", "curl", "wget", "top",
        "who", "w", "last", "sha256sum", "tar", "cat", "crontab", "systemctl", "journalctl",
    )),
)  # fmt: skip

# What irflow itself leaves on a host while it is isolated, and takes away at release whatever is in it.
_OURS = re.compile(r"/etc/systemd/system/((sysinit\.target|nftables\.service)\.wants(/irflow-isolation\.service)?"
                   r"|irflow-isolation\.service)")  # fmt: skip
_KEYS = re.compile(r"(/root|/home/[^/]+)/\.ssh/authorized_keys2?")


@dataclass(frozen=True)
class Difference:
    """Paths that differ. withdrawn: keys that were removed, which only takes access away.

    running, listening: new programs without a proper file, new TCP ports. accepted: differences that were agreed to.
    """

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    def to_facts(self) -> dict[str, Json]:
        """As JSON for the journal."""
        return {name: list(getattr(self, name)) for name in self.__dataclass_fields__}


def fetch(context: Context, paths: tuple[str, ...]) -> str:
    """The manifest of the step's host now. Raises IrflowError when the answer was cut off."""
    text = call(context, SCRIPT, ["list", *paths], max_output=64 << 20, timeout_s=90.0).stdout.decode(
        "utf-8", "replace"
    )
    body, _, last = text.rstrip("\n").rpartition("\n")
    if last != f"end {body.count(chr(10)) + 1}":
        raise IrflowError("the manifest is not whole", where=context.the_host().name, hint="Run the step again")
    return body + "\n"


def prefix(host: str) -> str:
    """What the names of a host's baselines begin with; the hash keeps `web` and `web.1` apart."""
    plain = re.sub(r"[^a-z0-9._-]", "-", host.lower())[:100]
    return f"{plain}.{hashlib.sha256(host.encode()).hexdigest()[:8]}."


def name(host: str, content: bytes, at: datetime) -> str:
    """The name of a new baseline, with the moment and the hash of its content."""
    return f"{prefix(host)}{at:%Y%m%dt%H%M%S%f}.{hashlib.sha256(content).hexdigest()[:12]}.txt"


def untouched(path: str, content: bytes) -> bool:
    """Whether a baseline's content still has the hash that its name says."""
    return path.removesuffix(".txt").rpartition(".")[2] == hashlib.sha256(content).hexdigest()[:12]


def compare(before: str, after: str, accept: tuple[str, ...] = ()) -> Difference:
    """What differs between a baseline and now. accept: paths that a person changed on purpose.

    Whole lines are compared; the path is only read off lines that differ.
    """
    old, new = set(before.splitlines()), set(after.splitlines())
    different, was, now = _paths(old ^ new), _paths(old), _paths(new)
    changed, added, removed = different & was & now, different - was, different - now
    withdrawn = {path for path in removed if _KEYS.fullmatch(path)}
    fine = {path for path in different if path in accept or _OURS.fullmatch(path)} | withdrawn
    fresh = new - old
    return Difference(
        _sorted(changed - fine), _sorted(added - fine), _sorted(removed - fine), _sorted(withdrawn),
        _sorted(line for line in fresh if line.startswith(("deleted ", "stray "))),
        _sorted(line.removeprefix("listen ") for line in fresh if _reachable(line)),
        _sorted(different & set(accept)),
    )  # fmt: skip


def _paths(lines: set[str]) -> set[str]:
    """The paths of sum, meta and suid lines."""
    return {found for line in lines if (found := _path(line))}


def _path(line: str) -> str:
    kind, _, rest = line.partition(" ")
    if kind == "sum":
        return rest.partition(" ")[2].removeprefix("\\")
    if kind in ("meta", "suid"):
        start = rest.find(" /")
        return rest[start + 1 :].partition(" -> ")[0] if start >= 0 else ""
    return ""


def _reachable(line: str) -> bool:
    """Whether it is a TCP port that others can reach; UDP ports come and go with every query."""
    return line.startswith("listen tcp ") and not line.startswith(("listen tcp 127.", "listen tcp [::1]"))


def _sorted(lines: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(lines))
