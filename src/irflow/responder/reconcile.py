"""The reconciler: start phases that are due, start again what crashed, escalate what is stuck, close what is over."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from irflow.config import ResponderSettings
from irflow.core.engine import Engine
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.plan import Plan
from irflow.core.playbook import Phase
from irflow.core.ports import Run, Transaction
from irflow.core.progress import blocking, closable, due_phases, ended, runnable, to_ask
from irflow.core.severity import CHANNELS
from irflow.core.status import IncidentStatus, PhaseStatus, State, fold


def reconcile(engine: Engine, settings: ResponderSettings, incident: str) -> None:
    """Bring one open incident a step further; every decision is made and journalled inside one transaction."""
    status = engine.status(incident)
    for phase in (*(one.value for one in due_phases(status)), *_by_hand(status)):
        if _needs_run(status, phase) or _stuck(status, phase):
            engine.ports.store.transact(partial(_drive, engine, settings, incident, phase))
    if closable(status):
        engine.ports.store.transact(partial(_close, engine, incident))


def _by_hand(status: IncidentStatus) -> tuple[str, ...]:
    """Runbooks that a person started by themselves in Prefect and that are not over."""
    return tuple(
        name
        for name, known in status.phases.items()
        if name not in list(Phase) and status.open and known.requested_at is not None and known.ended_at is None
    )


def _needs_run(status: IncidentStatus, phase: str) -> bool:
    """Whether a run of the phase would achieve anything now."""
    known = status.phases.get(phase)
    if known is None or known.plan is None:
        return not (known and known.blocked)
    if known.stale or (known.requested_at is None and _to_show(status, known.plan)):
        return True
    return bool(runnable(status, known.plan) or to_ask(status, known.plan) or ended(status, known.plan) is not None)


def _to_show(status: IncidentStatus, plan: Plan) -> bool:
    """Whether the first response has asked something before any flow run was there to show its form."""
    return any(status.step(step.key).state is State.AWAITING for step in plan.steps)


def _stuck(status: IncidentStatus, phase: str) -> bool:
    """Whether the phase failed in a way that nobody was told of yet."""
    known = status.phases.get(phase)
    if known is None or known.escalated:
        return False
    return known.blocked or bool(known.plan and blocking(status, known.plan))


def _drive(engine: Engine, settings: ResponderSettings, incident: str, phase: str, tx: Transaction) -> None:
    status = fold(tx.events(incident))
    known = status.phases.get(phase) or PhaseStatus(phase)
    if _stuck(status, phase) and not _needs_run(status, phase):
        reason = f"{phase} is stuck: " + ", ".join(blocking(status, known.plan) if known.plan else ("no plan",))
        escalate(engine, tx, status, reason, phase=phase)
        return
    if not _needs_run(status, phase) or _working(engine, settings, tx.runs(incident, phase)):
        return
    if any(
        item.kind == "flow" and item.payload["incident"] == incident and item.payload["phase"] == phase
        for item in engine.ports.store.pending()
    ):
        return
    if known.fruitless >= settings.most_runs:
        if not known.escalated:
            escalate(engine, tx, status, f"{phase} made no progress in {known.fruitless} runs", phase=phase)
        return
    _request(engine, tx, status, phase, known, delay_s=settings.restart_after.total_seconds())


def _working(engine: Engine, settings: ResponderSettings, runs: list[Run]) -> bool:
    """Whether a Prefect run is alive: not ended, and with a heartbeat younger than the restart time."""
    young = engine.ports.clock.now() - settings.restart_after
    return any(run.executor == "prefect" and run.ended_at is None and run.heartbeat_at > young for run in runs)


def _request(
    engine: Engine, tx: Transaction, status: IncidentStatus, phase: str, known: PhaseStatus, *, delay_s: float
) -> None:
    """Ask for one flow run. The first at once; later ones only after the run before had time to show itself."""
    now = engine.ports.clock.now()
    if known.fruitless and known.requested_at and now < known.requested_at + timedelta(seconds=delay_s):
        return
    key = f"{status.incident.id}/{phase}/{status.last_seq}"
    data: dict[str, Json] = {"phase": phase, "key": key}
    tx.append(status.incident.id, Draft(Kind.RUN_REQUESTED, engine.actor, data))
    tx.enqueue("flow", {"incident": status.incident.id, **data})
    if phase == Phase.CONTAINMENT and known.plan is not None:
        tx.enqueue("respond", {"incident": status.incident.id})  # cut off what is left also while Prefect is down


def escalate(engine: Engine, tx: Transaction, status: IncidentStatus, reason: str, *, phase: str | None = None) -> None:
    """Record that people must look, and tell them by the channels of the severity."""
    data: dict[str, Json] = {"reason": reason, "phase": phase}
    tx.append(status.incident.id, Draft(Kind.ESCALATED, engine.actor, data))
    title = f"{status.incident.number}: {reason}"
    channels = list(CHANNELS[status.incident.severity])
    tx.enqueue("notify", {"incident": status.incident.id, "channels": channels, "title": title, "body": title})


def _close(engine: Engine, incident: str, tx: Transaction) -> None:
    status = fold(tx.events(incident))
    if closable(status):
        tx.append(incident, Draft(Kind.INCIDENT_CLOSED, engine.actor, {"reason": "all phases have ended"}))
        tx.index_incident(status.incident, closed=True)
