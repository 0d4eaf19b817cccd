"""Clocks: deadlines computed from the journal and now. Restarts do not move them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from irflow.core.playbook import Phase
from irflow.core.severity import RESPONSE_TIME
from irflow.core.status import IncidentStatus, PhaseStatus

# Windows of the guide, counted from detection (DESIGN section 1).
WINDOW: dict[Phase, timedelta] = {
    Phase.DETECTION: timedelta(minutes=15),
    Phase.CONTAINMENT: timedelta(minutes=15),
    Phase.RECOVERY: timedelta(hours=4),
    Phase.LESSONS_LEARNED: timedelta(weeks=1),
}

MARKS = (("50", 0.5), ("80", 0.8), ("100", 1.0))
"""Shares of a clock at which it warns; at the last it is breached."""


@dataclass(frozen=True)
class Clock:
    """One deadline. stopped_at: when what it waits for happened. human_s, machine_s: seconds of either kind so far."""

    name: str
    started_at: datetime
    deadline: datetime
    stopped_at: datetime | None
    human_s: float
    machine_s: float

    def used(self, now: datetime) -> float:
        """Share of the time used, 1.0 at the deadline; stands still once stopped."""
        end = self.stopped_at or now
        return (end - self.started_at) / (self.deadline - self.started_at)

    def met(self, now: datetime) -> bool:
        """Whether it stopped in time, or still has time left."""
        return (self.stopped_at or now) <= self.deadline

    def due_marks(self, now: datetime) -> tuple[str, ...]:
        """The marks reached so far, lowest first; none once it was stopped in time."""
        if self.stopped_at is not None:
            return ()
        return tuple(name for name, share in MARKS if self.used(now) >= share)


def elapsed(phase: PhaseStatus, now: datetime) -> tuple[float, float, float]:
    """(elapsed, machine, human) seconds of a phase from its start to its end or now."""
    if phase.started_at is None:
        return 0.0, 0.0, 0.0
    end = phase.ended_at or now
    waits = [*phase.waits, *([(phase.waiting_since, end)] if phase.waiting_since else [])]
    human = sum((until - since).total_seconds() for since, until in waits)
    total = (end - phase.started_at).total_seconds()
    return total, max(0.0, total - human), human


def clocks(status: IncidentStatus, now: datetime) -> tuple[Clock, ...]:
    """All clocks of an incident: one per phase window (where a playbook is followed), one for the response time.

    All start at detection. The response clock stops when the first step took effect or a person first answered.
    """
    start = status.incident.detected_at
    found: list[Clock] = []
    for name, window in WINDOW.items() if status.incident.playbook else ():
        phase = status.phases.get(name) or PhaseStatus(name)
        _, machine, human = elapsed(phase, now)
        stopped = phase.ended_at or status.closed_at
        found.append(Clock(f"phase.{name}", start, start + window, stopped, human, machine))
    response = RESPONSE_TIME[status.incident.severity]
    if response is not None:
        answered = [step.started_at for step in status.steps.values() if step.started_at]
        first = min([*answered, *([status.acknowledged_at] if status.acknowledged_at else [])], default=None)
        found.append(Clock("response", start, start + response, first, 0.0, 0.0))
    return tuple(found)


def window_of(phase: str) -> timedelta:
    """The time that a phase has; a runbook by itself has as much as containment, as it is used for that."""
    return WINDOW[Phase(phase)] if phase in list(Phase) else WINDOW[Phase.CONTAINMENT]


def window_clock(status: IncidentStatus, phase: str, now: datetime) -> Clock | None:
    """The clock of a phase; of a runbook by itself from its start on. None where no window is running."""
    found = next((one for one in clocks(status, now) if one.name == f"phase.{phase}"), None)
    known = status.phases.get(phase)
    if found is not None or phase in list(Phase) or known is None or known.started_at is None:
        return found
    _, machine, human = elapsed(known, now)
    start, stopped = known.started_at, known.ended_at or status.closed_at
    return Clock(f"phase.{phase}", start, start + window_of(phase), stopped, human, machine)
