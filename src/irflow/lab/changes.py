"""What was changed on a lab host: everything in its upper layers, and in its memory file systems."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from irflow.lab.layout import Layout
from irflow.lab.model import LabHost

# What logging in, sudo and the host's own start write.
LOGIN_TRACES = (
    "/run/lock",
    "/run/sshd",
    "/run/sshd.pid",
    "/run/sudo",
    "/run/utmp",
    "/var/lib/sudo",
    "/var/log/auth.log",
    "/var/log/btmp",
    "/var/log/console",
    "/var/log/lastlog",
    "/var/log/wtmp",
)


def changed(layout: Layout, host: LabHost, ignore: Sequence[str]) -> list[str]:
    """Paths added, changed or removed on the host, sorted, without those in or below `ignore`."""
    own, base = layout.host("own", host.name), layout.base
    found = set(_layer(layout.host("up", host.name), "", (own, base)))
    found |= set(_layer(layout.host("up-usr", host.name), "/usr", (layout.base_usr, Path("/usr"))))
    for memory in ("/run", "/dev/shm"):
        found |= set(_layer(Path(f"/proc/{host.pid}/root{memory}"), memory, ()))
    return sorted(path for path in found if not any(path == one or path.startswith(f"{one}/") for one in ignore))


def _layer(top: Path, prefix: str, below: Sequence[Path]) -> Iterator[str]:
    """Entries of a layer; a directory counts when it is new or its owner or mode differ from the one below."""
    for folder, directories, files in os.walk(top):
        for name in files:
            yield f"{prefix}/{Path(folder, name).relative_to(top)}"
        for name in directories:
            path = Path(folder, name)
            relative = path.relative_to(top)
            if path.is_symlink() or _differs(path, [under / relative for under in below]):
                yield f"{prefix}/{relative}"


def _differs(path: Path, below: Sequence[Path]) -> bool:
    for under in below:
        if under.is_dir() and not under.is_symlink():
            return _rights(path) != _rights(under)
    return True


def _rights(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
