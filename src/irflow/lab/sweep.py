"""Finding and removing everything that belongs to a lab, whoever made it and however that ended."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from irflow.lab.layout import MARKER, VANTAGES, Layout
from irflow.lab.model import LabError
from irflow.lab.syscalls import unmount

_PATIENCE_S = 15.0


def remove(layout: Layout) -> None:
    """Kill the lab's processes, delete its namespaces, detach its mounts and empty its directory.

    Nothing to remove is no error. Raises LabError when something stays.
    """
    _kill_all(layout)
    for path in namespaces(layout):
        unmount(path)
        path.unlink(missing_ok=True)
    for point in mounts(layout):
        unmount(point)
    _kill_all(layout)  # what was just being started when the first pass looked
    if mounts(layout) or namespaces(layout):
        raise LabError("mounts or namespaces of the lab stay", where=str(layout.run_dir), hint="Run it again as root")
    if layout.run_dir.is_dir():
        for entry in layout.run_dir.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def processes(layout: Layout) -> list[int]:
    """The lab's living processes: those that carry its mark or sit in one of its networks, and all they started."""
    mark = f"{MARKER}={layout.id}".encode()
    parts = ("net", *(part for part, _ in VANTAGES.values()))
    places = {place for part in parts if (place := _inode(layout.netns(part)))}
    server = f"{layout.files}/hosts/".encode()
    parents = {pid: int(fields[1]) for pid in _pids() if (fields := _stat(pid)) and fields[0] not in ("Z", "X")}
    found = {pid for pid in parents if _belongs(pid, mark, places, server)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - _ancestors())


def namespaces(layout: Layout) -> list[Path]:
    """The lab's named network namespaces."""
    return sorted(layout.netns("net").parent.glob(f"irl-{layout.id}-*"))


def mounts(layout: Layout) -> list[Path]:
    """Mount points within the lab's directory, innermost first."""
    root = str(layout.run_dir.resolve())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ")[4].encode().decode("unicode_escape")
        if point == root or point.startswith(root + "/"):
            found.append(Path(point))
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when there is no such process or it is a zombie."""
    fields = _stat(pid)
    return 0 if not fields or fields[0] in ("Z", "X") else int(fields[19])


def alive(pid: int, started: int | None = None) -> bool:
    """Whether the process lives (and, with `started`, is still the same one)."""
    now = start_time(pid)
    return now != 0 and started in (None, now)


def _kill_all(layout: Layout) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while found := processes(layout):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(f"processes do not end: {found}", where=str(layout.run_dir))
        time.sleep(0.01)


def _belongs(pid: int, mark: bytes, places: set[int], server: bytes) -> bool:
    if mark in _content(pid, "environ").split(b"\0"):
        return True
    # sshd hides its environment from everyone but root; its command line names the lab's directory.
    line = _content(pid, "cmdline")
    if server in line and b"sshd" in line[:64]:
        return True
    return _inode(Path(f"/proc/{pid}/ns/net")) in places


def _content(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""  # ended meanwhile, or another user's


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _ancestors() -> set[int]:
    """This process and those above it, which a lab must never end."""
    found, pid = set(), os.getpid()
    while pid > 0:
        found.add(pid)
        fields = _stat(pid)
        pid = int(fields[1]) if fields else 0
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (proc(5): field 3 is index 0)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
