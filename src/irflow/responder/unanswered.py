"""Questions past their window: people are told once more, and what may be is cut off for a short while meanwhile."""

from __future__ import annotations

from functools import partial

from irflow.core.engine import Engine
from irflow.core.journal import Draft, Kind
from irflow.core.leases import ends_by_itself
from irflow.core.model import Json, to_text
from irflow.core.playbook import Phase, Playbook
from irflow.core.ports import Transaction
from irflow.core.status import IncidentStatus, fold
from irflow.core.timeouts import SHORT_LEASE, Unanswered, short_leases, unanswered
from irflow.responder.reconcile import escalate


def watch_questions(engine: Engine, incident: str) -> None:
    """Act on what nobody answered, and on short leases that ran out; each is journalled and told once."""
    status = engine.status(incident)
    playbook = engine.catalog.playbooks.get(status.incident.playbook or "")
    if playbook is not None and _late(engine, status, playbook):
        engine.ports.store.transact(partial(_time_out, engine, incident, playbook))
    if _over(engine, status):
        engine.ports.store.transact(partial(_end, engine, incident))


def _late(engine: Engine, status: IncidentStatus, playbook: Playbook) -> tuple[Unanswered, ...]:
    catalog, now = engine.catalog, engine.ports.clock.now()
    return unanswered(status, playbook, catalog.actions, catalog.inventory, now)


def _time_out(engine: Engine, incident: str, playbook: Playbook, tx: Transaction) -> None:
    status = fold(tx.events(incident))
    for one in _late(engine, status, playbook):
        window, short = playbook.approval_window.total_seconds(), [step.key for step in one.short]
        data: dict[str, Json] = {
            "phase": one.plan.phase, "digest": one.plan.digest, "steps": [step.key for step in one.steps],
            "short": short, "seconds": SHORT_LEASE.total_seconds(), "window_s": window,
        }  # fmt: skip
        tx.append(incident, Draft(Kind.APPROVAL_TIMED_OUT, engine.actor, data))
        escalate(engine, tx, status, _told(one, window))
        if short and one.plan.phase == Phase.CONTAINMENT:
            tx.enqueue("respond", {"incident": incident})


def _told(one: Unanswered, window: float) -> str:
    waits = ", ".join(f"{step.title} on {step.target}" if step.target else step.title for step in one.steps)
    text = f"nobody answered within {window / 60:g} min about the {one.plan.phase} plan: {waits}"
    if one.short:
        hosts = ", ".join(dict.fromkeys(step.target for step in one.short))
        text += f"; done all the same on {hosts} for {SHORT_LEASE.total_seconds() / 60:g} min, then undone by itself"
    return text


def _over(engine: Engine, status: IncidentStatus) -> bool:
    now = engine.ports.clock.now()
    return any(
        now >= lease.until and ends_by_itself(status, lease)
        for lease in short_leases(status, list(status.leases.values()))
    )


def _end(engine: Engine, incident: str, tx: Transaction) -> None:
    """What the kernel has opened by now is not in force any more, and the question is open again."""
    status, now = fold(tx.events(incident)), engine.ports.clock.now()
    for lease in short_leases(status, list(status.leases.values())):
        if now >= lease.until and ends_by_itself(status, lease):  # else the keeper of leases opens it
            why = "nobody agreed to it in time"
            data: dict[str, Json] = {"kind": lease.kind, "until": to_text(lease.until), "reason": why}
            tx.append(incident, Draft(Kind.LEASE_EXPIRED, engine.actor, data, lease.step, lease.target))
            escalate(engine, tx, status, f"the {lease.kind} of {lease.target} has ended: {why}")
