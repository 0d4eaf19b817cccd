"""Unanswered questions: their role hears of them at a quarter of the window, the next one at half of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.clocks import clocks, elapsed
from irflow.core.incident import Incident
from irflow.core.journal import Kind
from irflow.core.phase import execute
from irflow.core.severity import Severity
from irflow.responder.reminders import remind
from tests.fakes.world import World, host, world
from tests.responder.test_reconcile import Hands

COMMANDER = Operator(name="c", login="root", roles=("incident_commander", "communications"))
WINDOW_S = 900.0


def asked(folder: Path, severity: Severity = Severity.HIGH) -> tuple[World, Incident, Hands]:
    clock = Hands()
    here = world(folder, host("a"), clock=clock)
    incident = here.incident("a", severity=severity)
    with ThreadExecutor() as executor:
        execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")
    assert here.engine.status(incident.id).waiting()
    told(here)
    return here, incident, clock


def told(here: World) -> list[tuple[str, tuple[str, ...]]]:
    """(title, channels) of what people were told since the last time."""
    items = here.store.take(["notify"], "test", lease_s=1)
    for one in items:
        here.store.done(one.id)
    return [(str(one.payload["title"]), tuple(one.payload["channels"])) for one in items]


def after(here: World, incident: Incident, clock: Hands, seconds: float) -> list[tuple[str, tuple[str, ...]]]:
    clock.move(seconds)
    remind(here.engine, incident.id)
    remind(here.engine, incident.id)
    return told(here)


def test_the_role_is_reminded_at_a_quarter_and_the_next_role_at_half(tmp_path: Path) -> None:
    here, incident, clock = asked(tmp_path)
    assert after(here, incident, clock, WINDOW_S / 4 - 1) == []
    ((title, channels),) = after(here, incident, clock, 1)
    assert (
        title
        == f"{incident.number}: still waiting for incident_commander since 3 min: approve the containment plan (1 step)"
    )
    assert channels == ("email", "dashboard")
    assert after(here, incident, clock, WINDOW_S / 4 - 1) == []
    ((title, _),) = after(here, incident, clock, 1)
    reminded = [one.data for one in here.store.events(incident.id) if one.kind == Kind.PERSON_REMINDED]
    assert [(one["share"], one["role"]) for one in reminded] == [
        ("25", "incident commander"), ("50", "incident commander and technical lead"),
    ]  # fmt: skip
    assert [one.kind for one in here.store.events(incident.id)].count(Kind.ESCALATED) == 1
    assert after(here, incident, clock, 10 * WINDOW_S) == []


def test_a_critical_incident_reminds_by_its_own_channels(tmp_path: Path) -> None:
    here, incident, clock = asked(tmp_path / "high")
    assert after(here, incident, clock, WINDOW_S / 4)[0][1] == ("email", "dashboard")
    (tmp_path / "medium").mkdir()
    here, incident, clock = asked(tmp_path / "medium", Severity.MEDIUM)
    assert after(here, incident, clock, WINDOW_S / 4)[0][1] == ("dashboard",)


def test_after_a_pause_of_irflow_people_are_told_once(tmp_path: Path) -> None:
    here, incident, clock = asked(tmp_path)
    assert len(after(here, incident, clock, WINDOW_S)) == 1
    reminded = [one.data["share"] for one in here.store.events(incident.id) if one.kind == Kind.PERSON_REMINDED]
    assert reminded == ["50"]


def test_who_has_answered_is_left_alone(tmp_path: Path) -> None:
    here, incident, clock = asked(tmp_path)
    plan = decisions.waiting_plan(here.engine.status(incident.id), None)
    here.store.transact(
        lambda tx: decisions.decide(tx, incident.id, COMMANDER, method="t", digest=plan.digest, yes=True)
    )
    assert after(here, incident, clock, WINDOW_S) == []


@pytest.fixture
def berlin() -> Iterator[None]:
    """A machine on which clocks go back at 01:00 UTC on 25 October 2026."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


def test_daylight_saving_moves_no_deadline_and_no_reminder(tmp_path: Path, berlin: None) -> None:
    clock = Hands()
    clock.moment = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)  # 02:50 in Berlin; ten minutes later it is 02:00 again
    here = world(tmp_path, host("a"), clock=clock)
    incident = here.incident("a", severity=Severity.HIGH)
    with ThreadExecutor() as executor:
        execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")
    told(here)
    deadlines = [one.deadline for one in clocks(here.engine.status(incident.id), clock.now())]
    assert after(here, incident, clock, WINDOW_S / 4 - 1) == []
    assert len(after(here, incident, clock, 1)) == 1
    assert len(after(here, incident, clock, WINDOW_S / 4)) == 1
    status = here.engine.status(incident.id)
    assert [one.deadline for one in clocks(status, clock.now())] == deadlines
    assert elapsed(status.phases["containment"], clock.now()) == pytest.approx((WINDOW_S / 2, 0.0, WINDOW_S / 2), abs=1)


def test_a_clock_that_is_set_back_or_forward_moves_no_deadline(tmp_path: Path) -> None:
    here, incident, clock = asked(tmp_path)
    deadlines = [one.deadline for one in clocks(here.engine.status(incident.id), clock.now())]
    for seconds in (-7200, 86400, -79200):
        clock.move(seconds)
        assert [one.deadline for one in clocks(here.engine.status(incident.id), clock.now())] == deadlines
    remind(here.engine, incident.id)
    assert len([one for one in here.store.events(incident.id) if one.kind == Kind.PERSON_REMINDED]) <= 1
