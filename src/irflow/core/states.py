"""How an incident, its phases, steps and leases can stand: the nouns that the journal is folded into."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from irflow.core.incident import Incident
from irflow.core.model import Json
from irflow.core.plan import Approval, Plan, PlanStep


class State(StrEnum):
    """Where a step stands.

    `open`: an intent without an outcome, so the target must be looked at again. `undoing`: the same of taking it back.
    """

    PENDING = "pending"
    AWAITING = "awaiting_approval"
    OPEN = "open"
    DONE = "done"
    NOOP = "noop"
    SKIPPED = "skipped"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo_failed"


FINISHED = frozenset({State.DONE, State.NOOP, State.SKIPPED, State.UNDONE})
"""Nothing more to do."""
TROUBLED = frozenset({State.FAILED, State.REFUSED, State.UNKNOWN, State.UNDO_FAILED})
"""Visible until a retry or a person's answer."""
TAKEN_BACK = frozenset({State.UNDOING, State.UNDONE, State.UNDO_FAILED})
"""A person wants it gone: nothing does it again, and nothing renews its lease."""
SETTLED = FINISHED | TAKEN_BACK | {State.FAILED, State.REFUSED}
"""Not to be run unless a person says so."""


@dataclass
class StepStatus:
    """What the journal says of one step.

    changes: as in the last intent. intended: those of all tries since it was last taken back, in order; intended_seq:
    sequence number of the first intent, 0 when the step never meant to change anything. outcome: data of the last one.
    planned: as the last plan that had it says. timed_out_at: when nobody had answered in time; short_s: then it is done
    for so many seconds at most, under the plan whose digest is short_for.
    Of the last question about it: asked_seq: its event; would: what it would change then; proceeds: who said go on;
    failed: it was asked because the step had failed. cleared_for: digest of the plan under which a person said go on.
    """

    key: str
    target: str = ""
    state: State = State.PENDING
    epoch: int = 0
    changes: tuple[Json, ...] = ()
    intended: tuple[Json, ...] = ()
    intended_seq: int = 0
    outcome: dict[str, Json] = field(default_factory=dict)
    asked_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    planned: PlanStep | None = None
    timed_out_at: datetime | None = None
    short_s: float | None = None
    short_for: str = ""
    asked_seq: int = 0
    would: tuple[str, ...] = ()
    proceeds: tuple[str, ...] = ()
    failed: bool = False
    cleared_for: str = ""


@dataclass
class PhaseStatus:
    """One phase.

    waits: closed intervals during which only a person could go on. stale: a target was added after the plan was made.
    fruitless: runs requested since something last happened in it. ended_seq: sequence number of its end.
    aborted_by: the operator who had it end early. forms: flow runs in Prefect that showed a form -> the last question.
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
    aborted_by: str = ""
    forms: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lease:
    """An isolation or a block in force on a target.

    until: when it ends by itself. asked_s: seconds that a person wants of each renewal, None for the plan's.
    seen_at: when it was last proved. drift: how it was found when it was last not as left, at drifted_at; people were
    told of that at told_at. unseen_since: since when the target cannot be looked at. warned: people know that it could
    not be renewed.
    """

    kind: str
    target: str
    until: datetime
    step: str
    seconds: float
    granted_at: datetime
    seen_at: datetime | None = None
    asked_s: float | None = None
    drift: str = ""
    drifted_at: datetime | None = None
    told_at: datetime | None = None
    unseen_since: datetime | None = None
    warned: bool = False


@dataclass
class IncidentStatus:
    """All that the journal says of one incident.

    expired: leases that ran out though nobody wanted them to. joined: heads of the local journals that are part of it.
    shown: id of the flow run in Prefect whose form asks a question, by the question's id.
    rejected: why answers to a question were not taken, by its id. forms: forms in Prefect whose answer was dealt with.
    reminded: (question, share of the window) of which its people were told again.
    """

    incident: Incident
    phases: dict[str, PhaseStatus] = field(default_factory=dict)
    steps: dict[str, StepStatus] = field(default_factory=dict)
    approvals: list[Approval] = field(default_factory=list)
    leases: dict[tuple[str, str], Lease] = field(default_factory=dict)
    expired: dict[tuple[str, str], Lease] = field(default_factory=dict)
    alerts: list[dict[str, Json]] = field(default_factory=list)
    documents: list[dict[str, Json]] = field(default_factory=list)
    evidence: list[dict[str, Json]] = field(default_factory=list)
    clock_marks: set[tuple[str, str]] = field(default_factory=set)
    joined: set[str] = field(default_factory=set)
    shown: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, list[str]] = field(default_factory=dict)
    forms: set[str] = field(default_factory=set)
    reminded: set[tuple[str, str]] = field(default_factory=set)
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
        """A step of a plan in force, or of the last plan that had it. Raises KeyError."""
        known = self.steps.get(key)
        if known is None or known.planned is None:
            raise KeyError(key)
        return known.planned

    def waiting(self) -> tuple[StepStatus, ...]:
        """The steps that wait for a person."""
        return tuple(step for step in self.steps.values() if step.state is State.AWAITING)
