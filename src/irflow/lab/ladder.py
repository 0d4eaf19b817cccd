"""Which kind of lab this machine can have, and exactly what each better kind lacks."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from irflow.core.errors import ServiceMissing
from irflow.lab.model import Level

# Programs and the Debian package of each.
_SSH = {"sshd": "openssh-server", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
_REAL = {
    **_SSH,
    "ip": "iproute2",
    "ss": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ps": "procps",
    "sudo": "sudo",
    "perl": "perl-base",
    "cron": "cron",
}
_SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Ids that a rootless lab needs: 0 to 65534 (nobody).
_IDS = 65535

# What a host needs from the kernel, tried for real: namespaces, a tmpfs, an overlay over /usr, a bridge, a veth.
_TRIAL = """\
set -eu
mount -t tmpfs none /mnt
mkdir /mnt/b /mnt/u /mnt/w /mnt/m
mount -t overlay overlay -o lowerdir=/mnt/b:/usr,upperdir=/mnt/u,workdir=/mnt/w$1 /mnt/m
ip link add br0 type bridge
ip link add v0 type veth peer name v1
"""


@dataclass(frozen=True)
class Rung:
    """One level of the ladder. missing: what stands in its way, each with how to mend it; empty when reachable."""

    level: Level
    missing: tuple[str, ...] = ()

    @property
    def reachable(self) -> bool:
        """Whether a lab of this level can be made here."""
        return not self.missing


def detect() -> Level:
    """The best level that this machine reaches."""
    return next(rung.level for rung in rungs() if rung.reachable)


def rungs() -> tuple[Rung, ...]:
    """All levels, best first, down to the first reachable one; the last is always reachable."""
    found: list[Rung] = []
    for level, look in ((Level.ROOT, _root), (Level.USERNS, _userns), (Level.LOOPBACK, _loopback)):
        found.append(Rung(level, tuple(look())))
        if found[-1].reachable:
            return tuple(found)
    return (*found, Rung(Level.FAKE))


def explain(found: Sequence[Rung]) -> str:
    """The ladder for a person: the level in use and, line by line, why no better one."""
    lines = [f"lab level: {found[-1].level.value}"]
    for rung in found[:-1]:
        lines += [f"  not {rung.level.value}: {reason}" for reason in rung.missing]
    return "\n".join(lines)


def require(level: Level) -> None:
    """Check that a lab of exactly this level can be made. Raises ServiceMissing with all reasons."""
    looks = {Level.ROOT: _root, Level.USERNS: _userns, Level.LOOPBACK: _loopback}
    if level is Level.FAKE:
        reasons = explain(rungs())
        raise ServiceMissing(f"no lab hosts are possible on this machine\n{reasons}", hint="Mend one of the reasons")
    missing = looks[level]()
    if missing:
        raise ServiceMissing(f"no lab of level {level.value} here: {'; '.join(missing)}")
    if level is Level.USERNS and not inside_user_namespace():
        raise ServiceMissing(
            "a lab of level userns lives within a user namespace, and this process is not in one",
            hint="Start the whole command through irflow.lab.ladder.enter",
        )


def inside_user_namespace() -> bool:
    """Whether this process sees mapped users instead of the machine's own."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def entered(argv: Sequence[str]) -> list[str]:
    """The command line that runs argv as root of a new user namespace, with own mounts, network and /run."""
    prepare = 'mount -t tmpfs none /run && ip link set lo up && exec "$@"'
    return ["unshare", "-Urnm", "--map-auto", "--", "sh", "-c", prepare, "sh", *argv]


def enter(argv: Sequence[str]) -> NoReturn:
    """Replace this process by argv within a user namespace. The lab lives as long as that command."""
    os.execvpe("unshare", entered(argv), {**os.environ, "PATH": _path()})


def inside_of(pid: int) -> bool:
    """Whether this process is in the user namespace of another one."""
    try:
        return Path(f"/proc/{pid}/ns/user").readlink() == Path("/proc/self/ns/user").readlink()
    except OSError:
        return False  # it ended, or is not ours


def join(pid: int, argv: Sequence[str]) -> NoReturn:
    """Replace this process by argv within the user namespace, mounts and network of another one."""
    inside = ["nsenter", "-t", str(pid), "-U", "-m", "-n", "--preserve-credentials", f"--wd={Path.cwd()}", "--", *argv]
    os.execvpe("nsenter", inside, {**os.environ, "PATH": _path()})


def require_packets() -> Level:
    """The level, if what is dropped there is proved by packets. Raises ServiceMissing with what is missing."""
    found = rungs()
    if found[-1].level.proves_packets:
        return found[-1].level
    raise ServiceMissing(
        "no hosts of their own network and firewall are possible here, so nothing could be proved\n" + explain(found),
        hint="Mend one of these reasons",
    )


def _root() -> list[str]:
    if not sys.platform.startswith("linux"):
        return [f"{sys.platform} has no namespaces: use Linux, or a Linux virtual machine"]
    if inside_user_namespace():
        return ["within a user namespace: root here is not root of the machine"]
    if os.geteuid():
        return [f"not root (uid {os.geteuid()}): run it as root, or with sudo"]
    return _programs(_REAL) + _merged_usr() + _kernel(["unshare", "-mn"], "")


def _userns() -> list[str]:
    if not sys.platform.startswith("linux"):
        return [f"{sys.platform} has no user namespaces"]
    missing = _programs(_REAL) + _merged_usr()
    if inside_user_namespace():
        rows = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if sum(int(row[2]) for row in rows) < _IDS:
            missing.append(f"this user namespace maps fewer than {_IDS} users: sshd cannot change users in it")
        return missing + (_kernel(["unshare", "-mn"], ",userxattr") if not missing else [])
    missing += _programs({"newuidmap": "uidmap", "newgidmap": "uidmap"})
    user = _user_name()
    for file in ("/etc/subuid", "/etc/subgid"):
        if _subordinate(Path(file), user) < _IDS:
            missing.append(
                f"{file} gives {user or 'this user'} fewer than {_IDS} ids: add the line {user}:100000:65536"
            )
    return missing or _kernel(["unshare", "-Urnm", "--map-auto"], ",userxattr")


def _loopback() -> list[str]:
    if not sys.platform.startswith("linux"):
        return [f"{sys.platform} does not answer on all of 127.0.0.0/8"]
    missing = _programs(_SSH)
    try:
        account = pwd.getpwuid(os.geteuid())
    except KeyError:
        return [*missing, f"uid {os.geteuid()} has no account: sshd lets nobody in"]
    if Path(account.pw_shell).name in ("nologin", "false"):
        missing.append(f"the account {account.pw_name} has no login shell ({account.pw_shell})")
    return missing


def _programs(wanted: Mapping[str, str]) -> list[str]:
    lacking = {program: package for program, package in wanted.items() if not shutil.which(program, path=_path())}
    if not lacking:
        return []
    names, packages = " ".join(sorted(lacking)), " ".join(sorted(set(lacking.values())))
    if shutil.which("apt-get"):
        return [f"missing programs: {names}: apt-get install {packages}"]
    return [f"missing programs: {names}: this is not Debian, install what holds them (in Debian: {packages})"]


def _merged_usr() -> list[str]:
    split = [name for name in ("/bin", "/sbin", "/lib") if not Path(name).is_symlink()]
    return (
        [f"{' '.join(split)}: not links into /usr: the lab needs a merged /usr (Debian 12 or later)"] if split else []
    )


def _kernel(wrapper: Sequence[str], options: str) -> list[str]:
    try:
        done = subprocess.run(
            [*wrapper, "sh", "-c", _TRIAL, "sh", options],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": _path(), "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        return []  # already reported as a missing program
    except subprocess.TimeoutExpired:
        return ["making namespaces did not end within 20 s"]
    if done.returncode == 0:
        return []
    reason = done.stderr.strip() or f"exit status {done.returncode}"
    return [f"the kernel or a container refuses namespaces, overlay or veth ({reason}): use a machine of its own"]


def _subordinate(file: Path, user: str) -> int:
    owners = {user, str(os.geteuid())}
    try:
        rows = [line.split(":") for line in file.read_text().splitlines()]
    except OSError:
        return 0
    return max((int(row[2]) for row in rows if len(row) == 3 and row[0] in owners), default=0)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{_SEARCH}"
