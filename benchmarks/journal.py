"""How fast the journal is: events a second from 32 writers beside the disk's own fsyncs a second, and the fold."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from irflow.adapters.journal_sql import open_store
from irflow.core.incident import Incident
from irflow.core.journal import GENESIS, Draft, Event, Kind, chain
from irflow.core.model import to_text
from irflow.core.plan import Plan, PlanStep
from irflow.core.ports import SystemClock
from irflow.core.status import fold

WRITERS = 32
FOLD_EVENTS = 10_000
FOLD_LIMIT_S = 0.2
PAGE = 4096


def bench_journal(directory: Path) -> list[dict[str, Any]]:
    """Measure in a directory of the disk in question.

    Returns rows of bench.json: name, value, unit, limit (None where there is none), n, passed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    growing, grown = raw_syncs(directory, size=1 << 40)
    syncs, count = raw_syncs(directory, size=4 << 20)
    alone, one = appends(directory, writers=1, each=500)
    shared, many = appends(directory, writers=WRITERS, each=200)
    seconds = fold_seconds(FOLD_EVENTS)
    return [
        _row("journal: raw fdatasync, a page at the end of a growing file", growing, "1/s", grown),
        _row("journal: raw fdatasync, a page inside a file of 4 MB, as a write-ahead log", syncs, "1/s", count),
        _row("journal: events, 1 writer, each durable", alone, "1/s", one),
        _row(f"journal: events, {WRITERS} writers, each durable", shared, "1/s", many),
        _row(f"journal: fold of {FOLD_EVENTS} events", seconds, "s", 5, limit=FOLD_LIMIT_S),
    ]


def _row(name: str, value: float, unit: str, n: int, limit: float | None = None) -> dict[str, Any]:
    passed = limit is None or value <= limit
    return {"name": name, "value": round(value, 4), "unit": unit, "limit": limit, "n": n, "passed": passed}


def raw_syncs(directory: Path, *, size: int, seconds: float = 1.0) -> tuple[float, int]:
    """(fdatasyncs per second, how many): one page written and synced at a time, starting over after size bytes.

    A growing file costs the file system a write of its own; SQLite's log grows once and is then written over.
    """
    path = directory / "raw"
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        if size < 1 << 30:
            os.write(file, b"x" * size)
            os.fsync(file)
        count, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < seconds:
            os.pwrite(file, b"y" * PAGE, count * PAGE % size)
            os.fdatasync(file)
            count += 1
        return count / took, count
    finally:
        os.close(file)
        path.unlink()


def appends(directory: Path, *, writers: int, each: int) -> tuple[float, int]:
    """(events per second, how many): every writer appends to its own chain and waits for the commit."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        store = open_store(f"sqlite:///{folder}/journal.db", clock=SystemClock())
        draft = Draft(Kind.STEP_INTENT, "irflow:bench", {"action": "host.isolate", "changes": []}, "step", "web-1", 1)

        def write(number: int) -> None:
            for _ in range(each):
                store.transact(lambda tx: tx.append(f"I{number}", draft))

        try:
            with ThreadPoolExecutor(writers) as pool:
                list(pool.map(write, range(writers)))  # threads, connection and caches are warm
                start = time.perf_counter()
                list(pool.map(write, range(writers)))
                took = time.perf_counter() - start
        finally:
            store.close()
    return writers * each / took, writers * each


def fold_seconds(count: int, tries: int = 5) -> float:
    """Median seconds to fold a long incident: a plan for 100 hosts, then steps, leases, evidence and approvals."""
    events = long_incident(count)
    took = []
    for _ in range(tries):
        start = time.perf_counter()
        fold(events)
        took.append(time.perf_counter() - start)
    return sorted(took)[tries // 2]


def long_incident(count: int, hosts: int = 100) -> list[Event]:
    """A journal of so many events, at least 1,000, as the engine and the reconciler write them."""
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    incident = Incident.model_validate(
        {
            "id": "01J0000000000000000000BENCH", "number": "IR-2026-0001", "type": "system_compromise",
            "severity": "critical", "trust": "verified", "title": "many hosts", "detected_at": now,
            "hosts": [f"web-{number}" for number in range(hosts)],
        }
    )  # fmt: skip
    steps = tuple(
        PlanStep(
            key=f"containment/isolate-host.isolate@web-{number}", runbook="isolate-host", step="isolate",
            title="Isolate", action="host.isolate", target=f"web-{number}", params={"host": f"web-{number}"}, people=1,
        )
        for number in range(hosts)
    )  # fmt: skip
    plan = Plan(incident=incident.id, phase="containment", steps=steps)
    drafts = [
        Draft(Kind.INCIDENT_OPENED, "irflow:bench", {"incident": incident.to_data()}),
        Draft(Kind.PHASE_PLANNED, "irflow:bench", {"plan": plan.model_dump(mode="json")}),
        Draft(Kind.PHASE_STARTED, "irflow:bench", {"phase": "containment"}),
    ]
    lease = {"kind": "isolation", "until": to_text(now + timedelta(hours=8)), "seconds": 28_800.0}
    yes = {"digest": plan.digest, "operator": "ana", "role": "incident_commander", "method": "os-account"}
    asked = {"phase": "containment", "digest": plan.digest}
    outcome = {"outcome": "done", "facts": {}, "checks": [], "leases": [lease]}
    drafts += [Draft(Kind.PERSON_ASKED, "irflow:bench", asked, step.key, step.target) for step in steps]
    drafts += [Draft(Kind.APPROVAL_GIVEN, "operator:ana", yes)]
    turn = 0
    while len(drafts) < count:
        step = steps[turn % hosts]
        story: list[tuple[Kind, dict[str, Any]]] = [
            (Kind.STEP_INTENT, {"changes": [{"what": "drop all"}]}),
            (Kind.EVIDENCE_TAKEN, {"path": "x", "sha256": "0" * 64}),
            (Kind.STEP_OUTCOME, outcome),
            (Kind.LEASE_RENEWED, lease),
            (Kind.LEASE_RENEWED, lease),
            (Kind.NOTIFICATION_SENT, {"channel": "email"}),
        ]
        drafts += [Draft(kind, "irflow:bench", data, step.key, step.target, turn + 1) for kind, data in story]
        turn += 1
    return list(chain(incident.id, (0, GENESIS), now, drafts[:count]))


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="irflow-bench-"))
    print(json.dumps(bench_journal(where), indent=2))
