"""The status of an incident: a fold of its events. Nothing here is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from irflow.core.incident import Incident
from irflow.core.journal import Event, Kind
from irflow.core.model import Json, from_text
from irflow.core.plan import Approval, Plan, PlanStep


class State(StrEnum):
    """Where a step stands. `open` means: an intent without an outcome, so the target must be looked at again."""

    PENDING = "pending"
    AWAITING = "awaiting_approval"
    OPEN = "open"
    DONE = "done"
    NOOP = "noop"
    SKIPPED = "skipped"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"


FINISHED = frozenset({State.DONE, State.NOOP, State.SKIPPED, State.UNDONE})
"""Nothing more to do."""
TROUBLED = frozenset({State.FAILED, State.REFUSED, State.UNKNOWN, State.UNDO_FAILED})
"""Visible until a retry or a person's answer."""


@dataclass
class StepStatus:
    """What the journal says of one step. changes: as in the last intent. outcome: data of the last outcome."""

    key: str
    target: str = ""
    state: State = State.PENDING
    epoch: int = 0
    changes: tuple[Json, ...] = ()
    outcome: dict[str, Json] = field(default_factory=dict)
    asked_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0


@dataclass
class PhaseStatus:
    """One phase.

    waits: closed intervals during which only a person could go on. stale: a target was added after the plan was made.
    fruitless: runs requested since something last happened in it. ended_seq: sequence number of its end.
    """

    phase: str
    plan: Plan | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = ""
    blocked: bool = False
    waits: list[tuple[datetime, datetime]] = field(default_factory=list)
    waiting_since: datetime | None = None
    stale: bool = False
    fruitless: int = 0
    requested_at: datetime | None = None
    escalated: bool = False
    ended_seq: int = 0


@dataclass(frozen=True)
class Lease:
    """An isolation or a block in force on a target."""

    kind: str
    target: str
    until: datetime
    step: str
    seconds: float
    granted_at: datetime


@dataclass
class IncidentStatus:
    """All that the journal says of one incident."""

    incident: Incident
    phases: dict[str, PhaseStatus] = field(default_factory=dict)
    steps: dict[str, StepStatus] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    alerts: list[dict[str, Json]] = field(default_factory=list)
    documents: list[dict[str, Json]] = field(default_factory=list)
    evidence: list[dict[str, Json]] = field(default_factory=list)
    clock_marks: set[tuple[str, str]] = field(default_factory=set)
    acknowledged_at: datetime | None = None
    closed_at: datetime | None = None
    closed_seq: int = 0
    last_seq: int = 0

    @property
    def open(self) -> bool:
        """Whether the incident is not closed."""
        return self.closed_at is None

    def step(self, key: str) -> StepStatus:
        """The status of a step; pending when the journal does not know it."""
        return self.steps.get(key) or StepStatus(key)

    def plan(self, phase: str) -> Plan | None:
        """The plan in force for a phase."""
        found = self.phases.get(phase)
        return found.plan if found else None

    def plan_step(self, key: str) -> PlanStep:
        """A step of a plan in force. Raises KeyError."""
        for phase in self.phases.values():
            for step in phase.plan.steps if phase.plan else ():
                if step.key == key:
                    return step
        raise KeyError(key)

    def waiting(self) -> tuple[StepStatus, ...]:
        """The steps that wait for a person."""
        return tuple(step for step in self.steps.values() if step.state is State.AWAITING)


def fold(events: Iterable[Event], status: IncidentStatus | None = None) -> IncidentStatus:
    """Replay events in order; with `status`, go on from there (its last_seq).

    Raises ValueError when the first event does not open an incident.
    """
    for event in events:
        if status is None:
            if event.kind != Kind.INCIDENT_OPENED:
                raise ValueError(f"the journal of {event.incident} starts with {event.kind}")
            status = IncidentStatus(Incident.model_validate(event.data["incident"]))
        _FOLDS.get(event.kind, _ignore)(status, event)
        if event.step:
            _fruit(status, event.step)
        status.last_seq = event.seq
    if status is None:
        raise ValueError("an empty journal has no status")
    return status


def _ignore(status: IncidentStatus, event: Event) -> None:
    """Events that change no status: they speak for themselves in the timeline."""


def _step(status: IncidentStatus, event: Event) -> StepStatus:
    step = status.steps.get(event.step)
    if step is None:
        step = status.steps[event.step] = StepStatus(event.step, event.target)
    return step


def _phase(status: IncidentStatus, name: str) -> PhaseStatus:
    return status.phases.setdefault(name, PhaseStatus(name))


def _planned(status: IncidentStatus, event: Event) -> None:
    plan = Plan.model_validate(event.data["plan"])
    phase = _phase(status, plan.phase)
    phase.plan, phase.blocked, phase.ended_at, phase.outcome = plan, False, None, ""
    phase.stale, phase.fruitless, phase.escalated = False, 0, False
    for step in plan.steps:
        known = status.steps.setdefault(step.key, StepStatus(step.key, step.target))
        if known.state is State.AWAITING:
            known.state = State.PENDING


def _phase_started(status: IncidentStatus, event: Event) -> None:
    phase = _phase(status, event.data["phase"])
    phase.started_at = phase.started_at or event.moment


def _phase_ended(status: IncidentStatus, event: Event) -> None:
    phase = _phase(status, event.data["phase"])
    phase.ended_at, phase.outcome, phase.blocked = event.moment, event.data["outcome"], False
    phase.ended_seq = event.seq
    _close_wait(phase, event.moment)


def _phase_blocked(status: IncidentStatus, event: Event) -> None:
    _phase(status, event.data["phase"]).blocked = True


def _run_requested(status: IncidentStatus, event: Event) -> None:
    phase = _phase(status, event.data["phase"])
    phase.fruitless += 1
    phase.requested_at = event.moment


def _escalated(status: IncidentStatus, event: Event) -> None:
    if event.data.get("phase"):
        _phase(status, event.data["phase"]).escalated = True
    if event.data.get("severity"):
        status.incident = Incident.model_validate({**status.incident.to_data(), "severity": event.data["severity"]})
        for phase in status.phases.values():
            phase.stale = phase.plan is not None


def _fruit(status: IncidentStatus, key: str) -> None:
    """Something happened in the phase of a step, so trying again may bear fruit."""
    phase = status.phases.get(key.partition("/")[0])
    if phase is not None:
        phase.fruitless, phase.escalated = 0, False


def _close_wait(phase: PhaseStatus, at: datetime) -> None:
    if phase.waiting_since is not None:
        phase.waits.append((phase.waiting_since, at))
        phase.waiting_since = None


def _asked(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.asked_at = State.AWAITING, event.moment
    phase = _phase(status, event.data["phase"])
    if phase.waiting_since is None:
        phase.waiting_since = event.moment


def _answered(status: IncidentStatus, phase: PhaseStatus, at: datetime) -> None:
    """Close the phase's wait once nothing in it waits for a person any more."""
    keys = [step.key for step in phase.plan.steps] if phase.plan else []
    if not any(status.step(key).state is State.AWAITING for key in keys):
        _close_wait(phase, at)


def _approved(status: IncidentStatus, event: Event) -> None:
    approval = Approval(at=event.moment, **{key: event.data[key] for key in ("digest", "operator", "role", "method")})
    status.approvals.append(approval)
    status.acknowledged_at = status.acknowledged_at or event.moment
    for phase in status.phases.values():
        if phase.plan and phase.plan.digest == approval.digest:
            phase.fruitless, phase.escalated = 0, False
            yes = {one.operator for one in status.approvals if one.digest == approval.digest}
            for step in phase.plan.steps:
                known = status.step(step.key)
                if known.state is State.AWAITING and step.manual is None and step.people <= len(yes):
                    known.state = State.PENDING
            _answered(status, phase, event.moment)


def _refused(status: IncidentStatus, event: Event) -> None:
    status.acknowledged_at = status.acknowledged_at or event.moment
    for phase in status.phases.values():
        if phase.plan and phase.plan.digest == event.data["digest"]:
            for step in phase.plan.steps:
                known = status.step(step.key)
                if known.state is State.AWAITING and step.manual is None:
                    known.state = State.REFUSED
                    known.ended_at = event.moment
            _answered(status, phase, event.moment)


def _manual(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state = State(event.data["outcome"])
    step.outcome, step.ended_at = event.data, event.moment
    status.acknowledged_at = status.acknowledged_at or event.moment
    _answered(status, _phase(status, event.data["phase"]), event.moment)


def _intent(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.epoch, step.changes = State.OPEN, event.epoch, tuple(event.data["changes"])
    step.started_at = step.started_at or event.moment
    step.attempts += 1


def _outcome(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.outcome, step.ended_at = State(event.data["outcome"]), event.data, event.moment
    step.epoch = max(step.epoch, event.epoch)
    step.started_at = step.started_at or event.moment
    for lease in event.data.get("leases", ()):
        _grant(status, event, lease)
    for kind in event.data.get("ended_leases", ()):
        status.leases.pop((kind, event.target), None)


def _grant(status: IncidentStatus, event: Event, lease: dict[str, Json]) -> None:
    status.leases[lease["kind"], event.target] = Lease(
        lease["kind"], event.target, from_text(lease["until"]), event.step, float(lease["seconds"]), event.moment
    )


def _renewed(status: IncidentStatus, event: Event) -> None:
    _grant(status, event, event.data)


def _retry(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state = State.PENDING
    _phase(status, event.data["phase"]).blocked = False


def _undone(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state = State.UNDONE if event.data["outcome"] == "done" else State.UNDO_FAILED
    for kind in event.data.get("ended_leases", ()):
        status.leases.pop((kind, event.target), None)


def _host_added(status: IncidentStatus, event: Event) -> None:
    hosts = dict.fromkeys((*status.incident.hosts, *event.data.get("hosts", ())))
    addresses = dict.fromkeys((*status.incident.addresses, *event.data.get("addresses", ())))
    status.incident = status.incident.model_copy(update={"hosts": tuple(hosts), "addresses": tuple(addresses)})
    for phase in status.phases.values():
        phase.stale = phase.plan is not None


def _closed(status: IncidentStatus, event: Event) -> None:
    status.closed_at, status.closed_seq = event.moment, event.seq


_FOLDS: dict[str, Callable[[IncidentStatus, Event], None]] = {
    Kind.ALERT_RECEIVED: lambda status, event: status.alerts.append(event.data),
    Kind.PHASE_PLANNED: _planned,
    Kind.PHASE_STARTED: _phase_started,
    Kind.PHASE_ENDED: _phase_ended,
    Kind.PHASE_BLOCKED: _phase_blocked,
    Kind.RUN_REQUESTED: _run_requested,
    Kind.ESCALATED: _escalated,
    Kind.PERSON_ASKED: _asked,
    Kind.APPROVAL_GIVEN: _approved,
    Kind.APPROVAL_REFUSED: _refused,
    Kind.MANUAL_ANSWERED: _manual,
    Kind.STEP_INTENT: _intent,
    Kind.STEP_OUTCOME: _outcome,
    Kind.STEP_RETRY: _retry,
    Kind.UNDO_OUTCOME: _undone,
    Kind.LEASE_RENEWED: _renewed,
    Kind.HOST_ADDED: _host_added,
    Kind.DOCUMENT_WRITTEN: lambda status, event: status.documents.append(event.data),
    Kind.EVIDENCE_TAKEN: lambda status, event: status.evidence.append({**event.data, "seq": event.seq, "at": event.at}),
    Kind.CLOCK_WARNED: lambda status, event: status.clock_marks.add((event.data["clock"], event.data["mark"])),
    Kind.CLOCK_BREACHED: lambda status, event: status.clock_marks.add((event.data["clock"], event.data["mark"])),
    Kind.INCIDENT_CLOSED: _closed,
}
