"""The whole drill, stack start included, installation apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.result import figure
from irflow.drill.run import run_drill

LIMIT_S = 60.0


def bench_drill(folder: Path) -> list[dict[str, Any]]:
    """Two drills of one host. Raises RuntimeError when one does not pass: its time would mean nothing."""
    seconds = []
    for number in range(2):
        card = run_drill(
            "compromised-host", hosts=1, out=folder / str(number), keep=False, sabotage=None, report=lambda _: None
        )
        if not card.passed:
            raise RuntimeError(f"the drill failed: {card.failed}")
        seconds.append(card.seconds)
    return [figure("whole drill with stack start", seconds, "s", limit=LIMIT_S)]
