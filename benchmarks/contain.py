"""Time to contain: irflow's whole path against a bare receiver with paramiko, turn by turn in one run."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import floor
from benchmarks.result import figure
from benchmarks.stand import SETTLE_S, Stand, clear, contain, stand
from irflow.core.journal import Event, Kind
from irflow.core.model import from_text
from irflow.lab.lab import Lab
from irflow.supervisor.stack import memory_table

# Hosts, limit of the ratio to the floor, turns.
SIZES = ((1, 1.6, 9), (10, 1.3, 7), (100, 1.3, 3))
PREFECT_PATH_LIMIT_S = 1.2
MEMORY_LIMIT_MB = 700.0


def bench_contain(folder: Path) -> list[dict[str, Any]]:
    """All figures about containment. folder: a scratch folder on a local disk."""
    results: list[dict[str, Any]] = []
    with Lab.up(max(size for size, _, _ in SIZES), folder / "lab") as lab:
        with stand(folder / "home", lab, first_response=True) as here, floor.serve(lab) as (url, bare):
            for size, limit, turns in SIZES:
                results += _turns(here, url, bare, size, limit, turns)
            results += _memory(here)
        with stand(folder / "prefect", lab, first_response=False) as here:
            results.append(_prefect_path(here))
    return results


def _memory(here: Stand) -> list[dict[str, Any]]:
    """After all that, with the flow runs of the last incident still under way, and once they have ended."""
    busy = sum(pss for _, _, pss in memory_table(here.stack.pids()))
    worker = psutil.Process(here.stack.pids()["worker"])
    deadline = time.monotonic() + SETTLE_S
    while len(worker.children(recursive=True)) > 1 and time.monotonic() < deadline:  # the preloaded parent stays
        time.sleep(0.5)
    rows = memory_table(here.stack.pids())
    total = sum(pss for _, _, pss in rows)
    return [
        *(figure(f"memory of {name} (PSS)", [pss], "MB") for name, _, pss in rows),
        figure("memory of the embedded stack (PSS)", [total], "MB", limit=MEMORY_LIMIT_MB),
        figure("the same just after 100 hosts, flow runs included", [busy], "MB"),
    ]


def _turns(here: Stand, url: str, bare: floor.Floor, size: int, limit: float, turns: int) -> list[dict[str, Any]]:
    """The two in turn, A B A B; one uncounted warm-up each."""
    names = [host.name for host in here.lab.hosts[:size]]
    ours, theirs, parts = [], [], []
    for turn in range(turns + 1):
        seconds, events = contain(here, names)
        clear(here, events, names)
        bare_seconds = _bare(here, url, bare, names)
        if turn:
            ours.append(seconds)
            theirs.append(bare_seconds)
            parts.append(breakdown(events))
    ratio = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    label = f"{size} host{'s' if size > 1 else ''}"
    print(
        f"  where the time goes, {label}: "
        + ", ".join(f"{name} {statistics.median(one[name] for one in parts):.3f} s" for name in parts[0]),
        flush=True,
    )
    return [
        figure(f"contain {label}", ours, "s"),
        figure(f"contain {label}, bare receiver", theirs, "s"),
        figure(f"contain {label}, ratio", ratio, "x", limit=limit),
    ]


def _bare(here: Stand, url: str, bare: floor.Floor, names: Sequence[str]) -> float:
    bare.done.clear()
    sent = time.monotonic()
    httpx.post(url, json={"hosts": list(names)}, trust_env=False)
    if not bare.done.wait(180) or bare.failures:
        raise RuntimeError(f"the bare receiver failed: {bare.failures[:3]}")
    for name in names:
        here.lab.exec(
            here.lab.host(name), ["sh", "-c", "nft delete table inet irflow; rm -f /var/lib/irflow/isolation*"]
        )
    return bare.finished_at - sent


def breakdown(events: Sequence[Event]) -> dict[str, float]:
    """Seconds from one milestone of the journal to the next, for the last host."""
    moments = {"detected": from_text(events[0].data["incident"]["detected_at"])}
    for event in events:
        at = from_text(event.at)
        if event.kind == Kind.INCIDENT_OPENED:
            moments["intake"] = at
        elif event.kind == Kind.RUN_STARTED and event.data["phase"] == "containment":
            moments.setdefault("dispatch", at)
        elif event.kind == Kind.STEP_OUTCOME and event.data.get("action") == "evidence.collect":
            if event.step.partition("/")[2].startswith("isolate-host.snapshot"):
                moments["connect and snapshot"] = at
        elif event.kind == Kind.STEP_INTENT and event.data["action"] == "host.isolate":
            moments["observe"] = at
        elif event.kind == Kind.STEP_OUTCOME and event.data.get("leases"):
            moments["apply, confirm, probe"] = at
    names = list(moments)
    return {name: (moments[name] - moments[before]).total_seconds() for before, name in itertools.pairwise(names)}


def _prefect_path(here: Stand) -> dict[str, Any]:
    """One host, first response switched off: everything goes through a Prefect flow run."""
    names = [here.lab.hosts[0].name]
    values = []
    for turn in range(8):
        seconds, events = contain(here, names)
        clear(here, events, names)
        if turn:
            values.append(seconds)
    return figure("contain 1 host through Prefect alone", values, "s", limit=PREFECT_PATH_LIMIT_S)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="irflow-bench-") as scratch:
        for one in bench_contain(Path(scratch)):
            print(one)
