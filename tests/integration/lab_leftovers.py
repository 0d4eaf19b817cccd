"""What a lab left behind, found without the lab's own code."""

from __future__ import annotations

import os
from pathlib import Path


def leftovers(run_dir: Path, lab_id: str) -> list[str]:
    """Processes, mounts and network namespaces that still belong to the lab; each as a readable line."""
    found = [f"netns {path.name}" for path in Path("/run/netns").glob(f"*{lab_id}*")]
    found += [f"mount {line.split()[4]}" for line in _lines("/proc/self/mountinfo") if f"{run_dir}/" in line]
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid() or _state(name) in "ZX":
            continue
        carries = f"IRFLOW_LAB={lab_id}".encode() in _bytes(f"/proc/{name}/environ").split(b"\0")
        inside = str(run_dir).encode() in _bytes(f"/proc/{name}/mountinfo") and not _same_mounts(name)
        if carries or inside:
            found.append(f"process {name} {_bytes(f'/proc/{name}/cmdline')[:80]!r}")
    return found


def _same_mounts(name: str) -> bool:
    try:
        return Path(f"/proc/{name}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return True


def _state(name: str) -> str:
    return _bytes(f"/proc/{name}/stat").rpartition(b")")[2][1:2].decode() or "X"


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _lines(path: str) -> list[str]:
    return _bytes(path).decode().splitlines()
