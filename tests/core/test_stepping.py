"""Step by step: nothing happens before a person said so, and what was said holds for exactly that step and plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.answers import Answer, give
from irflow.core.approvals import Operator
from irflow.core.briefing import briefing, lines
from irflow.core.clocks import window_clock, window_of
from irflow.core.errors import HostUnreachable, IrflowError, Refused, UsageError
from irflow.core.identity import Access
from irflow.core.incident import Incident
from irflow.core.journal import Kind, digest
from irflow.core.mode import Mode
from irflow.core.phase import PhaseResult, execute, record_plan
from irflow.core.planner import plan_phase, plan_runbook
from irflow.core.playbook import Phase
from irflow.core.questions import Ask, Choice, Question, questions
from irflow.core.record import scope
from irflow.core.runbook import Runbook
from irflow.core.status import State, fold
from irflow.core.targets import Targets, add_targets
from tests.fakes.world import PLAYBOOK, RUNBOOK, World, host, world

ALL = ("incident_commander", "technical_lead", "communications")
ONE = Operator(name="one", login="root", roles=ALL)
TWO = Operator(name="two", login="root", roles=ALL)
LEGAL = Operator(name="law", login="root", roles=("legal",))
LOOKER = Operator(name="eye", login="root", roles=ALL, access=Access.MONITOR)
CUT, TELL = "containment/cut-off.cut@a", "containment/cut-off.tell"


def contain(here: World, incident: Incident) -> PhaseResult:
    with ThreadExecutor() as executor:
        return execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")


def asked(here: World, incident: Incident) -> tuple[Question, ...]:
    contain(here, incident)
    return questions(here.engine.status(incident.id))


def say(
    here: World, incident: Incident, question: Question, choice: str, who: Operator = ONE, **more: Any
) -> tuple[Question, ...]:
    """Answer, let the phase go on, and return what is asked next."""
    answer = Answer(Choice(choice), **more)
    here.store.transact(lambda tx: give(tx, incident.id, who, question.id, answer, method="t"))
    return asked(here, incident)


def stepping(folder: Path, *names: str, **flags: Any) -> tuple[World, Incident]:
    here = world(folder, *(host(name, **flags) for name in names))
    return here, here.incident(*names, mode=Mode.STEP)


def test_each_step_is_asked_in_its_turn_with_what_it_would_change(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    assert (look.ask, look.step.step, look.choices) == (Ask.STEP, "look", ("proceed", "skip", "abort"))
    (cut,) = say(here, incident, look, "proceed")
    assert (cut.step.step, cut.would, cut.roles) == ("cut", ("cut it",), ("incident_commander", "technical_lead"))
    assert cut.choices == ("proceed", "skip", "repeat", "abort")
    assert not [one for one in here.hosts.calls if one[0] == "apply"]
    (tell,) = say(here, incident, cut, "proceed")
    assert here.hosts.cut == {"a"}
    assert (tell.ask, tell.roles) == (Ask.MANUAL, ("communications",))
    assert say(here, incident, tell, "done", note="called") == ()
    assert here.engine.status(incident.id).phases["containment"].outcome == "completed"


def test_a_step_that_is_left_out_is_not_done_and_what_follows_is_asked(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "skip")
    (tell,) = say(here, incident, cut, "skip", note="in use")
    assert here.hosts.cut == set()
    known = here.engine.status(incident.id).step(CUT)
    assert (known.state, known.outcome["detail"]) == (State.SKIPPED, "skipped by one: in use")
    assert tell.step.step == "tell"


def test_repeat_does_the_step_before_once_more_and_asks_both_again(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    (again,) = say(here, incident, cut, "repeat")
    assert (again.step.step, again.id != look.id) == ("look", True)
    (then,) = say(here, incident, again, "proceed")
    assert (then.step.step, then.id != cut.id) == ("cut", True)
    outcomes = [one.step for one in here.store.events(incident.id) if one.kind == Kind.STEP_OUTCOME]
    assert outcomes == ["containment/cut-off.look@a"] * 2


def test_abort_begins_nothing_more_and_ends_the_phase_as_it_is(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a", "b")
    first, second = asked(here, incident)
    say(here, incident, first, "proceed")
    assert say(here, incident, second, "abort", note="false alarm") == ()
    phase = here.engine.status(incident.id).phases["containment"]
    assert (phase.outcome, phase.aborted_by) == ("aborted", "one")
    assert here.hosts.cut == set()
    states = {key: one.state for key, one in here.engine.status(incident.id).steps.items()}
    assert states.pop("containment/cut-off.look@a") is State.NOOP
    assert set(states.values()) == {State.SKIPPED}


def test_where_two_people_must_agree_both_say_so_of_the_step(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a", own=True)
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    assert cut.people == 2
    (still,) = say(here, incident, cut, "proceed")
    assert (still.id, still.said, still.form != cut.form) == (cut.id, ("one",), True)
    with pytest.raises(Refused, match="Another person must be the second"):
        say(here, incident, still, "proceed")
    assert here.hosts.cut == set()
    (tell,) = say(here, incident, still, "proceed", TWO)
    assert here.hosts.cut == {"a"}
    assert tell.step.step == "tell"


def test_one_person_is_enough_to_leave_a_step_out(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a", own=True)
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    say(here, incident, cut, "skip")
    assert here.engine.status(incident.id).step(CUT).state is State.SKIPPED


def test_a_failure_is_the_next_question_instead_of_the_end(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")

    def fail() -> None:
        raise HostUnreachable("no route", where="a")

    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    here.hosts.hooks["apply", "a"] = fail
    (failed,) = say(here, incident, cut, "proceed")
    assert (failed.ask, failed.choices) == (Ask.FAILED, ("repeat", "skip", "abort"))
    assert not here.engine.status(incident.id).phases["containment"].blocked
    with pytest.raises(UsageError, match="proceed is no answer"):
        say(here, incident, failed, "proceed")
    del here.hosts.hooks["apply", "a"]
    (tell,) = say(here, incident, failed, "repeat")
    assert here.hosts.cut == {"a"}
    assert tell.step.step == "tell"


def test_a_failure_can_be_left_as_it_is(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")

    def fail() -> None:
        raise IrflowError("broken", where="a")

    here.hosts.hooks["apply", "a"] = fail
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    (failed,) = say(here, incident, cut, "proceed")
    (tell,) = say(here, incident, failed, "skip")
    assert (tell.step.step, here.hosts.cut) == ("tell", set())


def test_the_plan_as_a_whole_cannot_be_approved_past_the_steps(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    asked(here, incident)
    plan = here.engine.status(incident.id).plan("containment")
    assert plan is not None
    with pytest.raises(Refused, match="step by step"):
        here.store.transact(lambda tx: decisions.decide(tx, incident.id, ONE, method="t", digest=plan.digest, yes=True))


def test_what_was_said_of_an_older_plan_clears_nothing_in_the_new_one(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", mode=Mode.STEP)
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    here.store.transact(lambda tx: add_targets(tx, incident.id, ONE, Targets(hosts=("b",)), ""))
    with pytest.raises(Refused, match=r"does not ask this any more|does not wait"):
        say(here, incident, cut, "proceed")
    again = asked(here, incident)
    assert {one.step.key for one in again} == {CUT, "containment/cut-off.look@b"}
    assert cut.id not in {one.id for one in again}
    assert here.hosts.cut == set()


@pytest.mark.parametrize(("who", "why"), [(LEGAL, "none of the roles"), (LOOKER, "access monitor")])
def test_whose_role_or_access_does_not_reach_is_refused(tmp_path: Path, who: Operator, why: str) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    with pytest.raises(Refused, match=why):
        say(here, incident, look, "proceed", who)
    assert questions(here.engine.status(incident.id)) == (look,)


def test_the_second_of_two_answers_is_told_that_it_came_too_late(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    say(here, incident, look, "skip")
    with pytest.raises(
        Refused, match="look@a does not wait for an answer any more: it has one, or its plan changed; it is skipped"
    ):
        say(here, incident, look, "proceed", TWO)


def test_a_form_counts_once(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    answers = [
        here.store.transact(
            lambda tx: give(tx, incident.id, ONE, look.id, Answer(Choice.PROCEED), method="t", form="run/form")
        )
        for _ in range(2)
    ]
    assert [bool(one) for one in answers] == [True, False]
    assert [one.kind for one in here.store.events(incident.id)].count(Kind.STEP_DECIDED) == 1


def test_in_approve_mode_nothing_runs_before_one_yes_to_all_of_it(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a", mode=Mode.APPROVE)
    (plan,) = asked(here, incident)
    assert (plan.ask, {one.step for one in plan.steps}) == (Ask.APPROVAL, {"look"})
    assert here.hosts.calls == []
    (tell,) = say(here, incident, plan, "proceed")
    assert here.hosts.cut == {"a"}
    assert tell.ask is Ask.MANUAL


def test_a_mode_is_part_of_what_people_agree_to_and_automatic_plans_keep_their_digest(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    catalog = here.engine.catalog
    made = {
        mode: plan_phase(catalog, incident.model_copy(update={"mode": mode}), PLAYBOOK, Phase.CONTAINMENT)
        for mode in Mode
    }
    assert len({one.digest for one in made.values()}) == 3
    before = made[Mode.AUTOMATIC].model_dump(mode="json", exclude={"mode": True, "steps": {"__all__": {"fields"}}})
    assert made[Mode.AUTOMATIC].digest == digest(before)


FIELDS = {
    "ticket": {"type": "string", "required": True},
    "minutes": {"type": "integer"},
    "said": {"type": "string", "choices": ["yes", "no"]},
    "since": {"type": "duration", "default": "1h"},
}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, "ticket is missing"),
        ({"ticket": "T", "minutes": "soon"}, "minutes: expected a whole number"),
        ({"ticket": "T", "said": "maybe"}, "said: one of yes, no"),
        ({"ticket": "T", "other": "x"}, "has no field 'other'"),
        ({"ticket": "T", "minutes": "3", "said": "yes"}, ""),
    ],
)
def test_what_a_manual_step_asks_for_is_typed(tmp_path: Path, given: dict[str, str], wrong: str) -> None:
    here = world(tmp_path, host("a"))
    steps = [*RUNBOOK.model_dump(by_alias=True)["steps"][:2], {"id": "tell", "title": "Tell", "manual": "Call",
              "role": "communications", "fields": FIELDS}]  # fmt: skip
    book = Runbook.model_validate({**RUNBOOK.model_dump(by_alias=True), "steps": steps})
    here.engine.catalog.runbooks["cut-off"] = book  # type: ignore[index]
    incident = here.incident("a")
    (tell,) = asked(here, incident)
    if wrong:
        with pytest.raises(UsageError, match=wrong):
            say(here, incident, tell, "done", fields=given)
        return
    say(here, incident, tell, "done", fields=given, evidence="T")
    facts = here.engine.status(incident.id).step(TELL).outcome["facts"]
    assert facts == {"ticket": "T", "minutes": 3, "said": "yes", "since": 3600}


def test_a_step_that_failed_by_hand_needs_no_fields(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    (tell,) = asked(here, incident)
    say(here, incident, tell, "failed", note="nobody there")
    assert here.engine.status(incident.id).step(TELL).state is State.FAILED


def test_a_briefing_says_all_that_one_must_know(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed")
    engine = here.engine
    told = briefing(cut, engine.status(incident.id), engine.catalog.actions, engine.ports.clock.now())
    text = {heading: " ".join(texts) for heading, texts in lines(told)}
    assert text["What"] == "Cut on a: cut"
    assert text["What it would change now"] == "cut it"
    assert text["How it is taken back"] == f"irflow undo {incident.number} --step {CUT}"
    assert "min left of the window" in text["Time"]
    assert "do cut-off.look@a once more" in text["Answers"]
    assert incident.number in text["Who asks"]
    assert text["Who may answer"] == "incident commander or technical lead"


def test_a_runbook_by_itself_goes_step_by_step_too(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    plan = plan_runbook(here.engine.catalog, incident, "cut-off", {"hosts": ["a"]}, mode=Mode.STEP)
    assert plan.mode is Mode.STEP


def test_documents_say_who_decided_about_each_step(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    (look,) = asked(here, incident)
    (cut,) = say(here, incident, look, "proceed", note="quick")
    say(here, incident, cut, "skip", TWO)
    events = here.store.events(incident.id)
    told = scope(fold(events), events, here.engine.ports.clock.now())["approvals"]
    assert [(one["operator"], one["answer"], one["reason"], one["method"]) for one in told] == [
        ("one", "proceed: cut-off.look@a", "quick", "t"), ("two", "skip: cut-off.cut@a", "", "t"),
    ]  # fmt: skip


def test_a_closed_incident_asks_nothing_and_its_run_ends_unfinished(tmp_path: Path) -> None:
    here, incident = stepping(tmp_path, "a")
    assert asked(here, incident)
    here.store.transact(lambda tx: decisions.close(tx, incident.id, ONE, "over"))
    assert contain(here, incident).state == "unfinished"
    assert questions(here.engine.status(incident.id)) == ()
    assert [one.kind for one in here.store.events(incident.id)][-1] != Kind.PERSON_ASKED


def test_a_runbook_by_itself_has_the_window_of_containment_from_its_start(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a", playbook=None)
    plan = plan_runbook(here.engine.catalog, incident, "cut-off", {"hosts": ["a"]}, mode=Mode.STEP)
    here.store.transact(lambda tx: record_plan(here.engine, tx, plan))
    status = here.engine.status(incident.id)
    clock = window_clock(status, "run-1", here.engine.ports.clock.now())
    assert clock is not None
    assert clock.deadline - clock.started_at == window_of("run-1") == window_of("containment")
