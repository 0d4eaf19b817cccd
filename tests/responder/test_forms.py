"""Every question has its form in Prefect, and none asks what is not asked any more, whoever was restarted meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.answers import Answer, give
from irflow.core.approvals import Operator
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.mode import Mode
from irflow.core.phase import execute
from irflow.core.questions import Choice, questions
from irflow.responder.forms import FormKeeper
from tests.fakes.world import World, host, world
from tests.responder.test_reconcile import Hands, flows

ONE = Operator(name="one", login="root", roles=("incident_commander", "technical_lead", "communications"))


@dataclass
class Runs:
    """core.ports.FlowStarter over a dict; waked: runs that were told to go on."""

    states: dict[str, str] = field(default_factory=dict)
    waked: list[str] = field(default_factory=list)

    def start(self, incident: Incident, phase: str, *, key: str, forms: Sequence[str] = ()) -> str:
        raise AssertionError("the outbox starts runs")

    def run_state(self, run_id: str) -> str:
        return self.states.get(run_id, "GONE")

    def go_on(self, run_id: str) -> bool:
        self.waked.append(run_id)
        self.states[run_id] = "COMPLETED"
        return True


@pytest.fixture
def here(tmp_path: Path) -> World:
    return world(tmp_path, host("a"), clock=Hands())


@pytest.fixture
def incident(here: World) -> Incident:
    """Its first step is asked, in the form of the flow run `run`."""
    found = here.incident("a", mode=Mode.STEP)
    with ThreadExecutor() as executor:
        execute(here.engine, found.id, "containment", executor, run_id=str(ULID()), kind="threads")
    (asked,) = questions(here.engine.status(found.id))
    data = {"question": asked.id, "flow_run": "run", "phase": "containment"}
    here.store.transact(lambda tx: tx.append(found.id, Draft(Kind.FORM_SHOWN, "test", data)))
    return found


def rounds(here: World, keeper: FormKeeper, *incidents: str, count: int = 3) -> None:
    clock = here.engine.ports.clock
    assert isinstance(clock, Hands)
    for _ in range(count):
        clock.move(10)
        keeper.keep(incidents)
        assert keeper._round is not None
        keeper._round.result(10)


def test_a_form_whose_question_waits_is_left_alone(here: World, incident: Incident) -> None:
    runs = Runs({"run": "PAUSED"})
    rounds(here, FormKeeper(here.engine, runs), incident.id)
    assert (runs.waked, flows(here)) == ([], [])


def test_what_was_answered_elsewhere_goes_on(here: World, incident: Incident) -> None:
    runs, (asked,) = Runs({"run": "PAUSED"}), questions(here.engine.status(incident.id))
    here.store.transact(lambda tx: give(tx, incident.id, ONE, asked.id, Answer(Choice.SKIP), method="t"))
    rounds(here, FormKeeper(here.engine, runs), incident.id)
    assert runs.waked == ["run"]


@pytest.mark.parametrize("state", ["CRASHED", "CANCELLED", "GONE"])
def test_a_question_whose_run_is_gone_gets_one_new_run(here: World, incident: Incident, state: str) -> None:
    rounds(here, FormKeeper(here.engine, Runs({"run": state})), incident.id)
    assert flows(here) == ["containment"]


def test_forms_of_an_incident_that_closed_while_no_responder_ran_end(here: World, incident: Incident) -> None:
    here.store.transact(lambda tx: decisions.close(tx, incident.id, ONE, "over"))
    runs = Runs({"run": "PAUSED"})
    rounds(here, FormKeeper(here.engine, runs))
    assert runs.waked == ["run"]
    assert flows(here) == []
