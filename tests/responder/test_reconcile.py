"""The reconciler: what is due starts, what crashed starts again, what is stuck is escalated, what is over closes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.config import ResponderSettings
from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.errors import HostUnreachable
from irflow.core.incident import Incident
from irflow.core.journal import Kind
from irflow.core.model import Json
from irflow.core.phase import execute
from irflow.core.ports import Run
from irflow.responder.reconcile import reconcile
from irflow.responder.watch import watch_clocks
from tests.fakes.world import World, host, world

SETTINGS = ResponderSettings()
ALL = Operator(name="o", login="root", roles=("incident_commander", "communications"))


class Hands:
    """A wall clock that a test moves by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


def flows(here: World) -> list[str]:
    """Phases for which a flow run is asked for; taking them counts as having started them."""
    items = here.store.take(["flow"], "test", lease_s=1)
    for item in items:
        here.store.done(item.id)
    return [item.payload["phase"] for item in items]


def tick(here: World, incident: Incident) -> list[str]:
    reconcile(here.engine, SETTINGS, incident.id)
    return flows(here)


def run_phase(here: World, incident: Incident, phase: str) -> None:
    with ThreadExecutor() as executor:
        execute(here.engine, incident.id, phase, executor, run_id=str(ULID()), kind="threads")


def messages(here: World) -> list[Json]:
    return [item.payload["title"] for item in here.store.pending() if item.kind == "notify"]


def test_detection_and_containment_start_at_once_and_only_once(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), clock=Hands())
    incident = here.incident("a")
    assert tick(here, incident) == ["containment", "detection"]
    assert tick(here, incident) == []


def test_phases_follow_one_another_to_the_end_and_the_incident_closes(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), clock=Hands())
    incident = here.incident("a")
    tick(here, incident)
    run_phase(here, incident, "detection")
    run_phase(here, incident, "containment")
    assert tick(here, incident) == []
    here.store.transact(
        lambda tx: decisions.answer(tx, incident.id, ALL, step="containment/cut-off.tell", outcome="done", note="")
    )
    assert tick(here, incident) == ["containment"]
    run_phase(here, incident, "containment")
    assert tick(here, incident) == ["recovery"]
    run_phase(here, incident, "recovery")
    assert tick(here, incident) == []
    plan = here.engine.status(incident.id).plan("recovery")
    assert plan is not None
    here.store.transact(lambda tx: decisions.decide(tx, incident.id, ALL, method="test", digest=plan.digest, yes=True))
    assert tick(here, incident) == ["recovery"]
    run_phase(here, incident, "recovery")
    assert tick(here, incident) == ["lessons_learned"]
    run_phase(here, incident, "lessons_learned")
    tick(here, incident)
    assert not here.engine.status(incident.id).open
    assert here.store.incidents(closed=False) == []


def test_a_run_that_died_is_started_again_three_times_and_then_people_are_told_once(tmp_path: Path) -> None:
    hands = Hands()
    here = world(tmp_path, host("a"), clock=hands)
    incident = here.incident("a")
    started: list[str] = []
    for _ in range(10):
        started += [phase for phase in tick(here, incident) if phase == "containment"]
        hands.move(11)
    assert started == ["containment"] * 3
    assert [title for title in messages(here) if "containment made no progress" in title] == [
        f"{incident.number}: containment made no progress in 3 runs"
    ]


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    hands = Hands()
    here = world(tmp_path, host("a"), clock=hands)
    incident = here.incident("a")
    tick(here, incident)
    for phase in ("detection", "containment"):
        run = Run(f"r-{phase}", incident.id, phase, "prefect", "worker", hands.now(), hands.now(), None)
        here.store.transact(lambda tx, one=run: tx.begin_run(one))  # type: ignore[misc]
    for _ in range(5):
        hands.move(5)
        here.store.heartbeat("worker")
        assert tick(here, incident) == []
    hands.move(30)
    assert tick(here, incident) == ["containment", "detection"]


def test_a_step_that_failed_is_told_of_once(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), clock=Hands())
    incident = here.incident("a")

    def dead() -> None:
        raise HostUnreachable("no answer", where="a")

    here.hosts.hooks["observe", "a"] = dead
    run_phase(here, incident, "containment")
    for _ in range(3):
        tick(here, incident)
    stuck = [title for title in messages(here) if "containment is stuck" in title]
    assert len(stuck) == 1
    assert "containment/cut-off.cut@a" in stuck[0]


def test_an_incident_without_playbook_starts_nothing(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), clock=Hands())
    assert tick(here, here.incident("a", playbook=None)) == []


def test_a_clock_warns_once_per_mark_and_its_breach_is_escalated(tmp_path: Path) -> None:
    hands = Hands()
    here = world(tmp_path, host("a"), clock=hands)
    incident = here.incident("a")
    seen: list[tuple[str, str]] = []
    for _ in range(4):
        hands.move(4 * 60)
        watch_clocks(here.engine, incident.id)
        watch_clocks(here.engine, incident.id)
    for event in here.store.events(incident.id):
        if event.kind in (Kind.CLOCK_WARNED, Kind.CLOCK_BREACHED) and event.data["clock"] == "phase.containment":
            seen.append((event.kind, event.data["mark"]))
    assert seen == [("clock.warned", "50"), ("clock.warned", "80"), ("clock.breached", "100")]
    assert f"{incident.number}: the phase.containment deadline has passed" in messages(here)


def test_containment_that_was_halted_goes_on_after_resume_even_without_prefect(tmp_path: Path) -> None:
    hands = Hands()
    here = world(tmp_path, host("a"), clock=hands)
    incident = here.incident("a")
    here.store.transact(lambda tx: decisions.halt(tx, ALL, "wait"))
    run_phase(here, incident, "containment")
    here.store.transact(lambda tx: decisions.resume(tx, ALL, "go"))
    hands.move(11)
    reconcile(here.engine, SETTINGS, incident.id)
    assert [item.payload for item in here.store.pending() if item.kind == "respond"] == [{"incident": incident.id}]
