"""Clocks are computed from the journal and now; machine time is told apart from waiting for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from irflow.core.alert import Trust
from irflow.core.clocks import Clock, clocks, elapsed
from irflow.core.incident import Incident
from irflow.core.journal import GENESIS, Draft, Event, Kind, chain
from irflow.core.model import Json
from irflow.core.severity import Level, Severity, risk, worse
from irflow.core.status import IncidentStatus, fold

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # half an hour before clocks go forward in Europe
STEP = "containment/x.tell"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def told(*happened: tuple[float, Kind, str, dict[str, Json]], severity: Severity = Severity.HIGH) -> IncidentStatus:
    """A status in which these things happened, at minutes after detection."""
    incident = Incident(
        id="i", type="t", severity=severity, trust=Trust.VERIFIED, title="t", detected_at=START, playbook="p"
    )
    events: list[Event] = []
    first = (0.0, Kind.INCIDENT_OPENED, "", {"incident": incident.to_data()})
    for minute, kind, step, data in (first, *happened):
        head = (events[-1].seq, events[-1].hash) if events else (0, GENESIS)
        events += chain("i", head, at(minute), [Draft(kind, "t", data, step)])
    return fold(events)


def planned(phase: str, manual: Iterable[str]) -> dict[str, Json]:
    steps = [{"key": key, "runbook": "x", "step": "tell", "title": "t", "manual": "do", "people": 1} for key in manual]
    return {"phase": phase, "plan": {"incident": "i", "phase": phase, "steps": steps}}


def clock(status: IncidentStatus, name: str, now: datetime) -> Clock:
    return next(one for one in clocks(status, now) if one.name == name)


@pytest.mark.parametrize(
    ("name", "deadline_min"),
    [
        ("phase.detection", 15), ("phase.containment", 15), ("phase.recovery", 240),
        ("phase.lessons_learned", 7 * 24 * 60), ("response", 240),
    ],
)  # fmt: skip
def test_every_clock_counts_from_detection_whatever_the_wall_clock_does(name: str, deadline_min: int) -> None:
    assert clock(told(), name, at(1)).deadline - START == timedelta(minutes=deadline_min)


def test_low_severity_has_no_response_clock() -> None:
    assert all(one.name != "response" for one in clocks(told(severity=Severity.LOW), at(0)))


@pytest.mark.parametrize(("minute", "marks"), [(7, ()), (7.5, ("50",)), (12, ("50", "80")), (15, ("50", "80", "100"))])
def test_marks_come_at_half_four_fifths_and_the_deadline(minute: float, marks: tuple[str, ...]) -> None:
    assert clock(told(), "phase.containment", at(minute)).due_marks(at(minute)) == marks


def test_a_phase_that_ended_stands_still() -> None:
    status = told(
        (1, Kind.PHASE_PLANNED, "", planned("containment", [])),
        (1, Kind.PHASE_STARTED, "", {"phase": "containment"}),
        (5, Kind.PHASE_ENDED, "", {"phase": "containment", "outcome": "completed"}),
    )
    stopped = clock(status, "phase.containment", at(500))
    assert (stopped.used(at(500)), stopped.met(at(500)), stopped.due_marks(at(500))) == (5 / 15, True, ())


def test_waiting_for_people_is_counted_apart_and_overlapping_questions_once() -> None:
    keys = [STEP, "containment/x.tell2"]
    ask = {"phase": "containment"}
    status = told(
        (0, Kind.PHASE_PLANNED, "", planned("containment", keys)),
        (0, Kind.PHASE_STARTED, "", {"phase": "containment"}),
        (2, Kind.PERSON_ASKED, keys[0], ask),
        (3, Kind.PERSON_ASKED, keys[1], ask),
        (4, Kind.MANUAL_ANSWERED, keys[0], {"phase": "containment", "outcome": "done"}),
        (7, Kind.MANUAL_ANSWERED, keys[1], {"phase": "containment", "outcome": "done"}),
    )
    assert elapsed(status.phases["containment"], at(10)) == (600, 300, 300)


def test_the_response_clock_stops_at_the_first_effect() -> None:
    status = told(
        (3, Kind.STEP_INTENT, "containment/x.cut@a", {"changes": []}),
        (4, Kind.STEP_OUTCOME, "containment/x.cut@a", {"outcome": "done"}),
    )
    assert clock(status, "response", at(9)).stopped_at == at(3)


def test_the_risk_matrix() -> None:
    high, medium, low = Level.HIGH, Level.MEDIUM, Level.LOW
    table = {(likelihood, impact): risk(likelihood, impact).value for likelihood in Level for impact in Level}
    assert table == {
        (high, high): "critical", (high, medium): "high", (high, low): "medium",
        (medium, high): "high", (medium, medium): "medium", (medium, low): "low",
        (low, high): "medium", (low, medium): "low", (low, low): "low",
    }  # fmt: skip
    assert worse(Severity.LOW, Severity.CRITICAL) is Severity.CRITICAL
