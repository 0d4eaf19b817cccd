"""How much memory the processes of a stack take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def memory_table(pids: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(service, pid, PSS in MiB with all its descendants). Shared pages count in parts, so the sum is honest.

    PSS: /proc/PID/smaps_rollup, see proc(5). Children that are services of their own are not counted twice.
    """
    children = _children()
    rows = []
    for name, pid in pids.items():
        others = set(pids.values()) - {pid}
        family, todo = [], [pid]
        while todo:
            one = todo.pop()
            family.append(one)
            todo += [child for child in children.get(one, ()) if child not in others]
        sizes = [_pss(one) for one in family]
        if sizes[0]:
            rows.append((name, pid, round(sum(sizes), 1)))
    return rows


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        found.setdefault(parent, []).append(int(path.parent.name))
    return found


def _pss(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)
