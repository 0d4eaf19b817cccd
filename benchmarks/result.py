"""One figure of bench.json."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def figure(
    name: str, values: Sequence[float], unit: str, *, limit: float | None = None, at_least: bool = False
) -> dict[str, Any]:
    """The median of the values against its limit.

    limit: largest value that passes, or smallest with at_least; None only informs. unit: `s`, `x` (ratio), `1/s`, `MB`.
    """
    value = statistics.median(values)
    passed = limit is None or (value >= limit if at_least else value <= limit)
    return {
        "name": name, "value": round(value, 4), "unit": unit, "limit": limit, "n": len(values), "passed": passed,
        "min": round(min(values), 4), "max": round(max(values), 4),
    }  # fmt: skip
