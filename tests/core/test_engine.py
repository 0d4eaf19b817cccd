"""The engine and the phase: intent before effect, one writer per step, running twice is safe."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.alert import Trust
from irflow.core.approvals import Operator
from irflow.core.errors import HostUnreachable, JournalError, OutcomeUnknown, Refused
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.outcome import StepResult
from irflow.core.phase import PhaseResult, execute
from irflow.core.plan import Plan, PlanStep
from irflow.core.ports import Claim
from irflow.core.severity import Severity
from irflow.core.status import State, fold
from tests.fakes.world import World, host, world

COMMANDER = Operator(name="c", login="root", roles=("incident_commander",))
OTHER = Operator(name="d", login="root", roles=("incident_commander",))
TALKER = Operator(name="t", login="root", roles=("communications",))
CUT = "containment/cut-off.cut@a"
TELL = "containment/cut-off.tell"


def contain(here: World, incident: Incident) -> PhaseResult:
    with ThreadExecutor() as executor:
        return execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")


def kinds(here: World, incident: Incident, step: str) -> list[str]:
    return [event.kind for event in here.store.events(incident.id) if event.step == step]


def approve(here: World, incident: Incident, who: Operator = COMMANDER, phase: str = "containment") -> None:
    plan = here.engine.status(incident.id).plan(phase)
    assert plan is not None
    here.store.transact(lambda tx: decisions.decide(tx, incident.id, who, method="test", digest=plan.digest, yes=True))


def test_the_intent_stands_in_the_journal_before_the_host_is_touched(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    seen: list[list[str]] = []
    here.hosts.hooks["apply", "a"] = lambda: seen.append(kinds(here, incident, CUT))
    contain(here, incident)
    assert seen == [[Kind.STEP_INTENT]]
    assert kinds(here, incident, CUT) == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]


def test_a_phase_goes_as_far_as_it_can_and_then_asks(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")
    result = contain(here, incident)
    assert result.state == "awaiting_approval"
    assert here.hosts.cut == {"a", "b"}
    assert here.engine.status(incident.id).step(TELL).state is State.AWAITING
    here.store.transact(lambda tx: decisions.answer(tx, incident.id, TALKER, step=TELL, outcome="done", note="called"))
    assert contain(here, incident).state == "ended"
    assert here.engine.status(incident.id).phases["containment"].outcome == "completed"


def test_running_a_phase_again_touches_nothing(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    calls = list(here.hosts.calls)
    contain(here, incident)
    assert here.hosts.calls == calls


def test_a_host_that_is_already_as_wanted_is_a_recorded_noop(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    here.hosts.cut.add("a")
    incident = here.incident("a")
    contain(here, incident)
    assert here.engine.status(incident.id).step(CUT).state is State.NOOP
    assert ("apply", "a") not in here.hosts.calls


@pytest.mark.parametrize(
    "more", [{"severity": Severity.HIGH}, {"trust": Trust.UNVERIFIED}], ids=["not critical", "unverified sender"]
)
def test_nothing_is_cut_without_a_yes_and_a_yes_cuts_it(tmp_path: Path, more: dict[str, object]) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a", **more)
    assert contain(here, incident).state == "awaiting_approval"
    assert not here.hosts.cut
    approve(here, incident)
    contain(here, incident)
    assert here.hosts.cut == {"a"}


def test_a_host_that_irflow_needs_is_cut_only_after_two_different_people_agreed(tmp_path: Path) -> None:
    here = world(tmp_path, host("a", own=True))
    incident = here.incident("a")
    contain(here, incident)
    approve(here, incident)
    contain(here, incident)
    assert not here.hosts.cut
    with pytest.raises(Refused, match="already approved"):
        approve(here, incident)
    approve(here, incident, OTHER)
    contain(here, incident)
    assert here.hosts.cut == {"a"}


def test_an_approval_names_one_digest_and_dies_with_its_plan(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", severity=Severity.HIGH)
    contain(here, incident)
    old = here.engine.status(incident.id).plan("containment")
    assert old is not None
    approve(here, incident)
    here.store.transact(
        lambda tx: tx.append(incident.id, Draft(Kind.HOST_ADDED, "test", {"hosts": ["b"], "addresses": []}))
    )
    contain(here, incident)
    assert not here.hosts.cut
    with pytest.raises(Refused, match="not in force"):
        here.store.transact(
            lambda tx: decisions.decide(tx, incident.id, OTHER, method="test", digest=old.digest, yes=True)
        )
    approve(here, incident)
    contain(here, incident)
    assert here.hosts.cut == {"a", "b"}


def test_only_the_right_role_may_say_yes(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a", severity=Severity.HIGH)
    contain(here, incident)
    with pytest.raises(Refused, match="none of the roles incident_commander"):
        approve(here, incident, TALKER)


def test_a_halt_stops_everything_and_a_resume_lifts_it(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    here.store.transact(lambda tx: decisions.halt(tx, COMMANDER, "false alarms"))
    assert contain(here, incident).state == "unfinished"
    assert not here.hosts.calls
    here.store.transact(lambda tx: decisions.resume(tx, COMMANDER, "sorted"))
    contain(here, incident)
    assert here.hosts.cut == {"a"}


def test_one_dead_host_stops_no_other_and_stays_visible(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")

    def dead() -> None:
        raise HostUnreachable("no answer within 5 s", where="a")

    here.hosts.hooks["observe", "a"] = dead
    result = contain(here, incident)
    assert here.hosts.cut == {"b"}
    status = here.engine.status(incident.id)
    assert (status.step(CUT).state, status.step(CUT).outcome["detail"]) == (State.FAILED, "a: no answer within 5 s")
    assert result.state == "blocked"
    assert any("cut-off.cut@a" in line and "no answer" in line for line in result.open_items)
    del here.hosts.hooks["observe", "a"]
    here.store.transact(lambda tx: decisions.retry(tx, incident.id, COMMANDER, step=CUT))
    contain(here, incident)
    assert here.hosts.cut == {"a", "b"}


def test_after_an_unknown_outcome_the_step_looks_again_and_does_not_cut_twice(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")

    def lost_once() -> None:
        del here.hosts.hooks["apply", "a"]
        here.hosts.cut.add("a")
        raise OutcomeUnknown("the connection ended", where="a")

    here.hosts.hooks["apply", "a"] = lost_once
    contain(here, incident)
    assert [call for call in here.hosts.calls if call == ("apply", "a")] == [("apply", "a")]
    assert here.engine.status(incident.id).step(CUT).state in (State.DONE, State.NOOP)


def test_two_engines_at_once_do_the_work_once_and_agree(tmp_path: Path) -> None:
    one = world(tmp_path, *(host(name) for name in "abcdefgh"))
    two = world(tmp_path, *(host(name) for name in "abcdefgh"), owner="two", shared=one.hosts)
    incident = one.incident(*"abcdefgh")
    results: list[PhaseResult] = []
    threads = [threading.Thread(target=lambda w=w: results.append(contain(w, incident))) for w in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    applied = [name for verb, name in one.hosts.calls if verb == "apply"]
    assert sorted(applied) == list("abcdefgh")
    assert {result.state for result in results} == {"awaiting_approval"}
    intents = [event for event in one.store.events(incident.id) if event.kind == Kind.STEP_INTENT]
    assert len(intents) == 8


def test_a_silent_owner_is_taken_over_with_a_higher_epoch_and_can_write_no_more(tmp_path: Path) -> None:
    slow = world(tmp_path, host("a"))
    quick = world(tmp_path, host("a"), owner="two", shared=slow.hosts, stale_s=0.2)
    incident = slow.incident("a")
    stuck, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        if not stuck.is_set():
            stuck.set()
            go_on.wait(20)

    slow.hosts.hooks["apply", "a"] = hang
    late: list[PhaseResult] = []
    thread = threading.Thread(target=lambda: late.append(contain(slow, incident)))
    thread.start()
    assert stuck.wait(10)
    contain(quick, incident)
    outcome = fold(quick.store.events(incident.id)).step(CUT)
    assert outcome.state is State.DONE
    go_on.set()
    thread.join(20)
    intents = [event for event in quick.store.events(incident.id) if event.kind == Kind.STEP_INTENT]
    outcomes = [e for e in quick.store.events(incident.id) if e.kind == Kind.STEP_OUTCOME and e.step == CUT]
    assert intents[0].epoch < intents[1].epoch == outcomes[0].epoch
    assert len(outcomes) == 1
    assert late[0].steps[CUT].state is State.DONE


def test_a_phase_that_cannot_be_planned_says_why_and_is_blocked(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("ghost")
    with pytest.raises(Refused, match="no host 'ghost'"):
        contain(here, incident)
    event = here.store.events(incident.id)[-1]
    assert event.kind == Kind.PHASE_BLOCKED
    assert "ghost" in event.data["error"]


def test_leases_come_from_outcomes(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    here.store.transact(
        lambda tx: tx.append(
            incident.id,
            Draft(
                Kind.STEP_OUTCOME,
                "t",
                {
                    "outcome": "done",
                    "leases": [{"kind": "isolation", "until": "2030-01-01T00:00:00.000000Z", "seconds": 60.0}],
                },
                CUT,
                "a",
            ),
        )
    )
    lease = here.engine.status(incident.id).leases["isolation", "a"]
    assert (lease.target, lease.seconds, lease.step) == ("a", 60.0, CUT)
    here.store.transact(
        lambda tx: tx.append(
            incident.id,
            Draft(Kind.STEP_OUTCOME, "t", {"outcome": "done", "ended_leases": ["isolation"]}, "recovery/x.free@a", "a"),
        )
    )
    assert not here.engine.status(incident.id).leases


def test_whoever_must_decide_is_told_once_with_the_command_to_give(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a", severity=Severity.HIGH)
    contain(here, incident)
    contain(here, incident)
    messages = [item.payload for item in here.store.pending() if item.kind == "notify"]
    assert [one["title"] for one in messages] == [f"{incident.number}: waiting for incident_commander: Cut"]
    assert f"irflow approve {incident.number}" in messages[0]["body"]
    assert messages[0]["channels"] == ["email", "dashboard"]


def test_a_step_that_cannot_be_journalled_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")

    real = here.engine._work

    def work(plan: Plan, step: PlanStep, claim: Claim) -> StepResult:
        if step.key == CUT:
            raise JournalError("the disk is full")
        return real(plan, step, claim)

    monkeypatch.setattr(here.engine, "_work", work)
    result = contain(here, incident)
    assert here.hosts.cut == {"b"}
    assert (result.steps[CUT].state, result.steps[CUT].detail) == (State.PENDING, "the disk is full")
