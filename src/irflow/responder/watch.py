"""What is watched while an incident is open: its clocks, and the signatures over its journal."""

from __future__ import annotations

from functools import partial

from irflow.core.clocks import Clock, clocks
from irflow.core.engine import Engine
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json, to_text
from irflow.core.ports import Transaction
from irflow.core.status import fold
from irflow.responder.reconcile import escalate


def watch_clocks(engine: Engine, incident: str) -> None:
    """Record the marks that clocks passed; at 100 % it is a breach, and people are told."""
    status, now = engine.status(incident), engine.ports.clock.now()
    for clock in clocks(status, now):
        for mark in clock.due_marks(now):
            if (clock.name, mark) not in status.clock_marks:
                engine.ports.store.transact(partial(_mark, engine, incident, clock, mark))


def _mark(engine: Engine, incident: str, clock: Clock, mark: str, tx: Transaction) -> None:
    status = fold(tx.events(incident))
    if (clock.name, mark) in status.clock_marks:
        return
    breach = mark == "100"
    data: dict[str, Json] = {
        "clock": clock.name, "mark": mark, "deadline": to_text(clock.deadline), "human_s": clock.human_s,
        "machine_s": clock.machine_s,
    }  # fmt: skip
    tx.append(incident, Draft(Kind.CLOCK_BREACHED if breach else Kind.CLOCK_WARNED, engine.actor, data))
    if breach:
        escalate(engine, tx, status, f"the {clock.name} deadline has passed")


def anchor(engine: Engine, incident: str, signed: dict[str, int]) -> None:
    """Sign the head after a phase ended or the incident closed. signed: last signed sequence number by incident."""
    status = engine.status(incident)
    if incident not in signed:
        signed[incident] = max((one.seq for one in engine.ports.anchors.load(incident)), default=0)
    due = max([status.closed_seq, *(phase.ended_seq for phase in status.phases.values())])
    if due > signed[incident]:
        head = engine.ports.store.events(incident, due - 1)[-1]
        engine.ports.anchors.sign(incident, head.seq, head.hash, head.at)
        signed[incident] = head.seq
