"""What the start page and an incident's page tell, as plain values for the templates."""

from __future__ import annotations

from datetime import datetime

from irflow.core.approvals import Operator
from irflow.core.clocks import WINDOW, elapsed
from irflow.core.clocks import clocks as clocks_of
from irflow.core.model import Json
from irflow.core.playbook import Phase
from irflow.core.questions import Question, questions
from irflow.core.states import FINISHED
from irflow.core.status import IncidentStatus, PhaseStatus, State
from irflow.web.questions import deadline, in_short, window

MOST_STEPS = 500
_LONGEST = 600


def soonest(rows: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """Questions, the one whose time is over first at the front; those without a deadline last, by when they came."""
    return sorted(rows, key=lambda one: (*by_deadline(one), one["asked_at"]))


def by_deadline(row: dict[str, Json]) -> tuple[bool, int]:
    """How rows with a deadline are sorted: the next one first, none at all last."""
    return row["deadline"] is None, row["deadline"]["ms"] if row["deadline"] else 0


def incident_row(status: IncidentStatus, operator: Operator, now: datetime) -> dict[str, Json]:
    """One open incident for the start page. waiting: its questions in short."""
    one = status.incident
    running = [deadline(clock, now) for clock in clocks_of(status, now)]
    due = sorted((found for found in running if found), key=lambda found: found["ms"])
    names = {clock.deadline: clock.name for clock in reversed(clocks_of(status, now)) if clock.stopped_at is None}
    return {
        "number": one.number, "title": one.title, "severity": one.severity.value, "type": one.type,
        "hosts": list(one.hosts), "phase": current_phase(status), "drill": one.drill,
        "deadline": due[0] if due else None,
        "deadline_name": names[due[0]["at"]].removeprefix("phase.") if due else "",
        "waiting": [in_short(status, asked, operator, now) for asked in questions(status)],
        "leases": len(status.leases), "overdue": len(status.expired),
    }  # fmt: skip


def current_phase(status: IncidentStatus) -> str:
    """The first phase that has begun and not ended; else the last that ended."""
    begun = [one for one in status.phases.values() if one.started_at or one.plan]
    going = next((one.phase for one in begun if one.ended_at is None), None)
    return going or (begun[-1].phase if begun else "not begun")


def facts(status: IncidentStatus) -> dict[str, Json]:
    """What an incident is about."""
    one = status.incident
    return {
        "id": one.id, "number": one.number, "title": one.title, "severity": one.severity.value, "type": one.type,
        "playbook": one.playbook or "none", "trust": one.trust.value, "mode": one.mode.value, "drill": one.drill,
        "hosts": list(one.hosts), "unknown_hosts": list(one.unknown_hosts), "addresses": list(one.addresses),
        "accounts": list(one.accounts), "hashes": list(one.hashes), "secrets": list(one.secrets),
        "detected_at": one.detected_at, "open": status.open, "closed_at": status.closed_at or "",
        "alerts": len(status.alerts), "evidence": len(status.evidence), "documents": len(status.documents),
        "leases": len(status.leases) + len(status.expired), "events": status.last_seq, "phase": current_phase(status),
    }  # fmt: skip


def phases(status: IncidentStatus, now: datetime) -> list[dict[str, Json]]:
    """The four phases in order, begun or not, then runbooks that ran by themselves."""
    names = [*(one.value for one in Phase), *(name for name in status.phases if name not in list(Phase))]
    asked: dict[str, list[Question]] = {}
    for one in questions(status):
        asked.setdefault(one.phase, []).append(one)
    return [_phase(status, name, len(asked.get(name, ())), now) for name in names]


def _phase(status: IncidentStatus, name: str, waiting: int, now: datetime) -> dict[str, Json]:
    phase = status.phases.get(name) or PhaseStatus(name)
    total, machine, human = elapsed(phase, now)
    clock = window(status, name, now)
    steps = phase.plan.steps if phase.plan else ()
    return {
        "name": name, "state": _state(phase, waiting), "waiting": waiting, "machine_s": machine, "human_s": human,
        "total_s": total, "deadline": deadline(clock, now), "window_s": _window_s(name),
        "late": clock is not None and not clock.met(now),
        "over_s": (clock.stopped_at - clock.started_at).total_seconds() if clock and clock.stopped_at else -1.0,
        "done": sum(1 for step in steps if status.step(step.key).state in FINISHED), "count": len(steps),
        "steps": [_step(status, step.key, step.title, step.target) for step in steps[:MOST_STEPS]],
        "more": max(0, len(steps) - MOST_STEPS), "outcome": phase.outcome,
    }  # fmt: skip


def _window_s(name: str) -> float:
    return WINDOW[Phase(name)].total_seconds() if name in list(Phase) else 0.0


def _state(phase: PhaseStatus, waiting: int) -> str:
    if phase.ended_at is not None:
        return phase.outcome or "ended"
    if waiting:
        return "waits for people"
    if phase.blocked:
        return "blocked"
    return "running" if phase.started_at else "planned" if phase.plan else "not begun"


_WORDS = {State.AWAITING: "waits for a person", State.OPEN: "running", State.NOOP: "done, nothing to change"}


def _step(status: IncidentStatus, key: str, title: str, target: str) -> dict[str, Json]:
    known = status.step(key)
    detail = str(known.outcome.get("detail") or known.outcome.get("note") or "")
    return {
        "title": title, "target": target, "key": key, "detail": detail[:_LONGEST],
        "state": _WORDS.get(known.state, known.state.value.replace("_", " ")),
    }  # fmt: skip
