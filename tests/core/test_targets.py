"""Targets that are added while an incident is under way: a new plan, and nothing that is done is done again."""

from __future__ import annotations

from pathlib import Path

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.errors import Refused
from irflow.core.incident import Incident
from irflow.core.inventory import Caps
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.phase import PhaseResult, execute, plans
from irflow.core.plan import Plan, PlanStep
from irflow.core.progress import due_phases
from irflow.core.severity import Severity
from irflow.core.status import State
from irflow.core.targets import Targets, add_targets, checked
from tests.fakes.world import World, host, world

COMMANDER = Operator(name="c", login="root", roles=("incident_commander", "communications"))
CUT_A, CUT_B, TELL = "containment/cut-off.cut@a", "containment/cut-off.cut@b", "containment/cut-off.tell"


def contain(here: World, incident: Incident) -> PhaseResult:
    with ThreadExecutor() as executor:
        return execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")


def add(here: World, incident: Incident, *hosts: str, addresses: tuple[str, ...] = ()) -> Targets:
    named = checked(here.engine.catalog.inventory, hosts=hosts, addresses=addresses)
    return here.store.transact(lambda tx: add_targets(tx, incident.id, COMMANDER, named, "seen there too"))


def plan_of(here: World, incident: Incident) -> Plan:
    found = here.engine.status(incident.id).plan("containment")
    assert found is not None
    return found


def approve(here: World, incident: Incident, digest: str) -> None:
    here.store.transact(lambda tx: decisions.decide(tx, incident.id, COMMANDER, method="t", digest=digest, yes=True))


def test_a_host_added_in_the_middle_is_cut_and_the_first_one_is_left_alone(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a")
    contain(here, incident)
    before = plan_of(here, incident).digest
    assert add(here, incident, "b", "a").hosts == ("b",)
    assert [item.payload for item in here.store.pending() if item.kind == "respond"] == [{"incident": incident.id}]
    (shown,) = [
        one for one in plans(here.engine.catalog, here.engine.status(incident.id)) if one.phase == "containment"
    ]
    contain(here, incident)
    assert plan_of(here, incident).digest == shown.digest != before
    assert here.hosts.cut == {"a", "b"}
    assert [one for one in here.hosts.calls if one[0] == "apply"] == [("apply", "a"), ("apply", "b")]
    assert here.store.find_incident(incident.number).hosts == ("a", "b")  # type: ignore[union-attr]


def test_a_yes_to_the_plan_before_does_not_count_for_the_new_one(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", severity=Severity.HIGH)
    contain(here, incident)
    old = plan_of(here, incident).digest
    add(here, incident, "b")
    with pytest.raises(Refused, match="not in force any more"):
        approve(here, incident, old)
    with pytest.raises(Refused, match="the containment plan is outdated"):
        decisions.waiting_plan(here.engine.status(incident.id), None)
    contain(here, incident)
    assert not here.hosts.cut
    approve(here, incident, plan_of(here, incident).digest)
    contain(here, incident)
    assert here.hosts.cut == {"a", "b"}


def test_the_cap_counts_hosts_that_were_touched_before(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"), caps=Caps(hosts=1))
    incident = here.incident("a")
    contain(here, incident)
    add(here, incident, "b")
    contain(here, incident)
    assert here.hosts.cut == {"a"}
    assert here.engine.status(incident.id).step(CUT_B).state is State.AWAITING
    assert "over the cap of 1 hosts per incident" in plan_of(here, incident).step(CUT_B).reasons


def test_a_phase_that_had_ended_is_due_again(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a")
    contain(here, incident)
    here.store.transact(lambda tx: decisions.answer(tx, incident.id, COMMANDER, step=TELL, outcome="done", note=""))
    assert contain(here, incident).state == "ended"
    assert "containment" not in due_phases(here.engine.status(incident.id))
    add(here, incident, "b")
    assert "containment" in due_phases(here.engine.status(incident.id))
    contain(here, incident)
    assert here.hosts.cut == {"a", "b"}


def step(addresses: list[str], manual: str | None = None) -> PlanStep:
    params: dict[str, Json] = {"host": "a", "addresses": addresses}
    action = None if manual else "test.cut"
    return PlanStep(
        key="containment/b.block@a", runbook="b", step="block", title="t", action=action, manual=manual, target="a",
        params={} if manual else params,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        (step(["192.0.2.9"]), step(["192.0.2.9", "192.0.2.10"]), True),
        (step(["192.0.2.9"]), step(["192.0.2.9"]), False),
        (step([], "Call the owner of a"), step([], "Call the owner of a, b"), True),
    ],
    ids=["another address", "the same", "another question"],
)
def test_a_step_that_asks_for_more_in_the_new_plan_runs_again(
    tmp_path: Path, before: PlanStep, after: PlanStep, again: bool
) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    drafts = [_planned(incident, before)]
    outcome: dict[str, Json] = {"outcome": "done", "facts": {}}
    drafts.append(Draft(Kind.STEP_OUTCOME, "test", outcome, before.key, "a", 1))
    drafts.append(_planned(incident, after))
    here.store.transact(lambda tx: tx.append(incident.id, *drafts))
    assert here.engine.status(incident.id).step(before.key).state is (State.PENDING if again else State.DONE)


def _planned(incident: Incident, one: PlanStep) -> Draft:
    plan = Plan(incident=incident.id, phase="containment", playbook="test", steps=(one,))
    return Draft(
        Kind.PHASE_PLANNED, "t", {"phase": plan.phase, "digest": plan.digest, "plan": plan.model_dump(mode="json")}
    )


def test_nothing_is_added_when_anything_is_wrong_and_all_of_it_is_said(tmp_path: Path) -> None:
    here = world(tmp_path, host("a", management=("198.51.100.0/24",)), host("b", own=True))
    with pytest.raises(Refused) as said:
        checked(
            here.engine.catalog.inventory, hosts=["a", "nonsense"],
            addresses=["198.51.100.7", "198.51.0.0/16", "192.0.2.1", "0.0.0.0/0", "127.0.0.1", "x"], accounts=["-rf"],
        )  # fmt: skip
    text = str(said.value)
    for wrong in (
        "the inventory has no host 'nonsense'",
        "198.51.100.7 is inside irflow's own management network 198.51.100.0/24 of a",
        "198.51.0.0/16 is inside irflow's own management network",
        "192.0.2.1 is",
        "'0.0.0.0/0' is no address or network",
        "'127.0.0.1' is no address",
        "'x' is no address",
        "'-rf' is no account name",
        "Nothing was added",
    ):
        assert wrong in text


def test_what_is_there_already_and_what_is_closed_is_refused(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a")
    assert add(here, incident, addresses=("::ffff:203.0.113.9", "203.0.113.9")).addresses == ("203.0.113.9",)
    with pytest.raises(Refused, match="has all of these already"):
        add(here, incident, "a", addresses=("203.0.113.9",))
    here.store.transact(lambda tx: decisions.close(tx, incident.id, COMMANDER, "over"))
    with pytest.raises(Refused, match="is closed"):
        add(here, incident, "b")
