"""Run all benchmarks, print a table, write bench.json; exit 1 when a limit is missed."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.actions import bench_actions
from benchmarks.contain import bench_contain
from benchmarks.drill import bench_drill
from benchmarks.intake import bench_intake
from benchmarks.journal import bench_journal
from benchmarks.secrets import bench_secrets

BENCHES: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "journal": bench_journal,
    "intake": bench_intake,
    "contain": bench_contain,
    "actions": bench_actions,
    "secrets": bench_secrets,
    "drill": bench_drill,
}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all."""
    results: list[dict[str, Any]] = []
    for name in names or list(BENCHES):
        started = time.monotonic()
        print(f"{name} ...", flush=True)
        with tempfile.TemporaryDirectory(prefix="irflow-bench-") as scratch:
            results += BENCHES[name](Path(scratch))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    width = max(len(one["name"]) for one in results)
    for one in results:
        limit = "" if one["limit"] is None else f"limit {one['limit']:g}"
        verdict = "" if one["limit"] is None else ("passed" if one["passed"] else "MISSED")
        spread = f"{one['min']:g} to {one['max']:g}" if "min" in one and one["n"] > 1 else ""
        value = f"{one['name']:{width}}  {one['value']:>10g} {one['unit']:4} n={one['n']:<5}"
        print(f"{value} {limit:12} {verdict:7} {spread}")
    Path("bench.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(one["passed"] for one in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
