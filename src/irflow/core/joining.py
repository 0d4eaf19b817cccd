"""A local run's state as one event of another journal, so that its leases are kept and its steps can be taken back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from irflow.core.incident import TARGETS
from irflow.core.model import Json, from_text, to_text
from irflow.core.plan import Plan
from irflow.core.states import IncidentStatus, Lease, PhaseStatus, State, StepStatus


def export_state(status: IncidentStatus) -> dict[str, Json]:
    """All that others need to go on: targets, plans, steps, leases, evidence and documents. JSON."""
    return {
        "incident": status.incident.to_data(),
        "phases": [
            {
                "phase": one.phase, "plan": one.plan.model_dump(mode="json") if one.plan else None,
                "outcome": one.outcome, **_texts(one, "started_at", "ended_at"),
            }
            for one in status.phases.values()
        ],
        "steps": [_step(one) for one in status.steps.values()],
        "leases": [{key: _plain(value) for key, value in asdict(one).items()} for one in status.leases.values()],
        "evidence": list(status.evidence),
        "documents": list(status.documents),
    }  # fmt: skip


def _step(one: StepStatus) -> dict[str, Json]:
    return {
        "key": one.key, "target": one.target, "state": one.state.value, "epoch": one.epoch,
        "changes": list(one.changes), "intended": list(one.intended), "outcome": one.outcome,
        "attempts": one.attempts, **_texts(one, "started_at", "ended_at"),
    }  # fmt: skip


def _texts(one: object, *names: str) -> dict[str, Json]:
    return {name: _plain(getattr(one, name)) for name in names}


def _plain(value: Json) -> Json:
    return to_text(value) if isinstance(value, datetime) else value


def _moment(text: Json) -> datetime | None:
    return from_text(text) if text else None


def import_state(status: IncidentStatus, state: dict[str, Json], seq: int) -> None:
    """Make a local run's state part of another incident's. What it had not begun is not begun here either.

    Its phases are named after the run, so none of them has the name of another. seq: of the event that joins it.
    """
    more = {name: (*getattr(status.incident, name), *state["incident"].get(name, ())) for name in TARGETS}
    status.incident = status.incident.model_copy(update={name: tuple(dict.fromkeys(more[name])) for name in TARGETS})
    for phase in state["phases"]:
        plan = Plan.model_validate({**phase["plan"], "incident": status.incident.id}) if phase["plan"] else None
        status.phases[phase["phase"]] = PhaseStatus(
            phase["phase"], plan, _moment(phase["started_at"]), _moment(phase["ended_at"]), phase["outcome"]
        )
    planned = {step.key: step for phase in status.phases.values() if phase.plan for step in phase.plan.steps}
    for one in state["steps"]:
        found = State(one["state"])
        status.steps[one["key"]] = StepStatus(
            one["key"], one["target"], State.SKIPPED if found in (State.PENDING, State.AWAITING) else found,
            epoch=one["epoch"], changes=tuple(one["changes"]), intended=tuple(one["intended"]),
            intended_seq=seq if one["intended"] else 0, outcome=one["outcome"], attempts=one["attempts"],
            started_at=_moment(one["started_at"]), ended_at=_moment(one["ended_at"]), planned=planned.get(one["key"]),
        )  # fmt: skip
    moments = ("until", "granted_at", "seen_at", "drifted_at", "told_at", "unseen_since")
    for one in state["leases"]:
        lease = Lease(**{**one, **{name: _moment(one.get(name)) for name in moments}})
        status.leases[lease.kind, lease.target] = lease
    status.evidence.extend(state["evidence"])
    status.documents.extend(state["documents"])
