"""Undo: reverse order, one proof per step, one failure stops nobody else's, and nothing does it again by itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.errors import ClaimLost, HostUnreachable, Refused, UsageError
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.phase import PhaseResult, execute
from irflow.core.plan import Plan, PlanStep
from irflow.core.progress import closable
from irflow.core.severity import Severity
from irflow.core.status import State
from irflow.core.taking_back import Request, TakeBack, UndoResult, held_elsewhere, look, request
from irflow.core.undo import UndoPlan
from tests.fakes.world import World, host, world

COMMANDER = Operator(name="c", login="root", roles=("incident_commander", "communications"))
OTHER = Operator(name="d", login="root", roles=("incident_commander",))
TALKER = Operator(name="t", login="root", roles=("communications",))
CUT_A, CUT_B = "containment/cut-off.cut@a", "containment/cut-off.cut@b"


def contain(here: World, incident: Incident) -> PhaseResult:
    with ThreadExecutor() as executor:
        return execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")


def seen(here: World, incident: Incident, step: str | None = None) -> UndoPlan:
    return look(here.store, here.engine.catalog, incident.id, step)


def agree(
    here: World, incident: Incident, who: Operator = COMMANDER, *, plan: UndoPlan | None = None, step: str | None = None
) -> Request:
    shown = plan or seen(here, incident, step)
    held = held_elsewhere(here.store, incident.id)
    return here.store.transact(
        lambda tx: request(tx, here.engine, shown, who, method="test", step=step, reason="wrong host", held=held)
    )


def undo(here: World, incident: Incident, who: Operator = COMMANDER, step: str | None = None) -> tuple[UndoResult, ...]:
    agreed = agree(here, incident, who, step=step)
    assert not agreed.missing
    return TakeBack(here.engine, f"operator:{who.name}").run(agreed.plan, step=step)


def kinds(here: World, incident: Incident, step: str) -> list[str]:
    return [event.kind for event in here.store.events(incident.id) if event.step == step]


def state(here: World, incident: Incident, step: str) -> State:
    return here.engine.status(incident.id).step(step).state


def plan_of(incident: Incident, *steps: PlanStep) -> Draft:
    plan = Plan(incident=incident.id, phase="containment", steps=steps)
    data: dict[str, Json] = {"phase": plan.phase, "digest": plan.digest, "plan": plan.model_dump(mode="json")}
    return Draft(Kind.PHASE_PLANNED, "test", data)


def planned(key: str, target: str, *after: str) -> PlanStep:
    params: dict[str, Json] = {"host": target}
    return PlanStep(
        key=key, runbook="r", step="s", title="t", action="test.cut", target=target, params=params, after=after
    )


def did(here: World, incident: Incident, steps: Sequence[PlanStep]) -> None:
    """Write a journal in which these steps were done, in this order."""
    drafts = [plan_of(incident, *steps)]
    for step in steps:
        change = {"summary": "cut it", "data": {"host": step.target}}
        drafts.append(Draft(Kind.STEP_INTENT, "test", {"changes": [change], "seen": {}}, step.key, step.target, 1))
        drafts.append(Draft(Kind.STEP_OUTCOME, "test", {"outcome": "done", "facts": {}}, step.key, step.target, 1))
    here.store.transact(lambda tx: tx.append(incident.id, *drafts))


def test_a_step_is_taken_back_after_its_undo_intent_stands_in_the_journal(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    before: list[list[str]] = []
    here.hosts.hooks["undo", "a"] = lambda: before.append(kinds(here, incident, CUT_A))
    (result,) = undo(here, incident)
    assert before == [[Kind.STEP_INTENT, Kind.STEP_OUTCOME, Kind.UNDO_INTENT]]
    assert (result.state, [check.name for check in result.checks]) == (State.UNDONE, ["is open"])
    assert not here.hosts.cut
    events = [event for event in here.store.events(incident.id) if event.step == CUT_A]
    assert [event.kind for event in events][-2:] == [Kind.UNDO_INTENT, Kind.UNDO_OUTCOME]
    assert events[-1].epoch > events[0].epoch
    assert events[-1].actor == "operator:c"


def test_nothing_does_it_again_by_itself_and_twice_is_fine(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    undo(here, incident)
    contain(here, incident)
    assert not here.hosts.cut
    with pytest.raises(Refused, match="was taken back, so it does not run again"):
        here.store.transact(lambda tx: decisions.retry(tx, incident.id, COMMANDER, step=CUT_A))
    calls = list(here.hosts.calls)
    assert undo(here, incident) == ()
    assert here.hosts.calls == calls


def test_steps_of_one_target_are_taken_back_in_reverse_order_of_the_journal(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")
    did(
        here,
        incident,
        [planned("containment/one@a", "a"), planned("containment/x@b", "b"), planned("containment/two@a", "a")],
    )
    order: list[str] = []
    shown = seen(here, incident)
    assert [one.key for one in shown.steps] == ["containment/two@a", "containment/x@b", "containment/one@a"]
    assert shown.steps[2].after == ("containment/two@a",)
    TakeBack(here.engine, "operator:c", lambda one: order.append(one.key)).run(agree(here, incident).plan)
    assert order.index("containment/two@a") < order.index("containment/one@a")


def test_different_targets_are_taken_back_side_by_side(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")
    contain(here, incident)
    both = threading.Barrier(2, timeout=10)

    def meet() -> None:
        both.wait()

    here.hosts.hooks["undo", "a"] = here.hosts.hooks["undo", "b"] = meet
    assert all(one.gone for one in undo(here, incident))


def test_a_failed_undo_stays_on_the_board_stops_no_other_and_is_done_by_a_repeat(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")
    contain(here, incident)

    def dead() -> None:
        raise HostUnreachable("no answer within 5 s", where="a")

    here.hosts.hooks["undo", "a"] = dead
    by_key = {one.key: one for one in undo(here, incident)}
    assert (by_key[CUT_A].state, by_key[CUT_B].state) == (State.UNDO_FAILED, State.UNDONE)
    assert "no answer" in by_key[CUT_A].detail
    assert here.hosts.cut == {"a"}
    contain(here, incident)
    assert here.hosts.cut == {"a"}, "a step whose undo failed was run again"
    with pytest.raises(Refused, match=f"stays open, not everything could be taken back: {CUT_A}"):
        here.store.transact(lambda tx: decisions.close(tx, incident.id, COMMANDER, "over"))
    del here.hosts.hooks["undo", "a"]
    assert [one.key for one in undo(here, incident)] == [CUT_A]
    assert not here.hosts.cut
    here.store.transact(lambda tx: decisions.close(tx, incident.id, COMMANDER, "over", false_positive=True))
    assert not here.engine.status(incident.id).open


@pytest.mark.parametrize(
    ("answer", "then"), [("done", State.UNDONE), ("skipped", State.DONE), ("failed", State.UNDO_FAILED)]
)
def test_a_person_can_say_how_a_failed_undo_was_dealt_with(tmp_path: Path, answer: str, then: State) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)

    def dead() -> None:
        raise HostUnreachable("no answer", where="a")

    here.hosts.hooks["undo", "a"] = dead
    undo(here, incident)
    here.store.transact(
        lambda tx: decisions.answer(tx, incident.id, COMMANDER, step=CUT_A, outcome=answer, note="rebuilt")
    )
    assert state(here, incident, CUT_A) is then


def test_what_others_are_built_upon_stays_while_they_cannot_be_taken_back(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"), host("c"))
    incident = here.incident("a", "b", "c")
    base, upon, alone = (
        planned("containment/base@a", "a"),
        planned("containment/upon@b", "b", "containment/base@a"),
        planned("containment/alone@c", "c"),
    )
    did(here, incident, [base, upon, alone])

    def dead() -> None:
        raise HostUnreachable("no answer", where="b")

    here.hosts.hooks["undo", "b"] = dead
    by_key = {one.key: one for one in undo(here, incident)}
    assert by_key[base.key].not_tried
    assert "containment/upon@b is built upon it" in by_key[base.key].detail
    assert by_key[alone.key].gone
    assert ("undo", "a") not in here.hosts.calls


def test_an_undo_that_died_after_its_intent_is_done_again(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    draft = Draft(Kind.UNDO_INTENT, "operator:c", {"changes": ["cut it"]}, CUT_A, "a", 5)
    here.store.transact(lambda tx: tx.append(incident.id, draft))
    assert state(here, incident, CUT_A) is State.UNDOING
    contain(here, incident)
    assert here.hosts.calls.count(("apply", "a")) == 1
    assert not closable(here.engine.status(incident.id))
    (result,) = undo(here, incident)
    assert result.gone
    assert not here.hosts.cut


def test_all_tries_of_a_step_are_taken_back_the_last_first(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    step = planned("containment/x@a", "a")
    drafts = [plan_of(incident, step)]
    for number, outcome in ((1, "unknown"), (2, "noop")):
        change = {"summary": f"change {number}", "data": {"host": "a"}}
        drafts.append(Draft(Kind.STEP_INTENT, "test", {"changes": [change], "seen": {}}, step.key, "a", number))
        drafts.append(Draft(Kind.STEP_OUTCOME, "test", {"outcome": outcome, "facts": {}}, step.key, "a", number))
    here.store.transact(lambda tx: tx.append(incident.id, *drafts))
    (shown,) = seen(here, incident).steps
    assert [one["summary"] for one in shown.changes] == ["change 2", "change 1"]
    undo(here, incident)
    assert here.hosts.calls == [("undo", "a"), ("undo", "a")]


def test_what_cannot_be_taken_back_is_named_with_its_reason_and_left_alone(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    freed = planned("containment/free@a", "a").model_copy(update={"action": "test.free"})
    did(here, incident, [planned("containment/cut@a", "a"), freed])
    shown = seen(here, incident)
    assert [(one.key, one.reason) for one in shown.left] == [
        ("containment/free@a", "test.free cannot be taken back: what reached it meanwhile cannot be taken back")
    ]
    undo(here, incident)
    assert state(here, incident, "containment/free@a") is State.DONE
    assert here.hosts.calls == [("undo", "a")]


def test_only_an_incident_commander_may_ask_and_only_for_what_was_shown(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b")
    contain(here, incident)
    shown = seen(here, incident)
    with pytest.raises(Refused, match="t does not hold the role incident_commander"):
        agree(here, incident, TALKER)
    undo(here, incident, step=CUT_B)
    with pytest.raises(Refused, match="has changed meanwhile"):
        agree(here, incident, plan=shown)
    assert here.hosts.cut == {"a"}
    with pytest.raises(UsageError, match="has no step nonsense"):
        seen(here, incident, "nonsense")


@pytest.mark.parametrize("careful", ["own", "protected"])
def test_a_host_that_matters_is_brought_back_only_after_two_people_agreed(tmp_path: Path, careful: str) -> None:
    here = world(tmp_path, host("a", **{careful: True}))
    incident = here.incident("a")
    did(here, incident, [planned(CUT_A, "a")])
    assert agree(here, incident).missing == 1
    assert not here.hosts.calls
    with pytest.raises(Refused, match="c has already agreed"):
        agree(here, incident)
    assert all(one.gone for one in undo(here, incident, OTHER))


def test_steps_that_were_not_begun_are_not_begun_after_all_was_taken_back(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a", "b", severity=Severity.HIGH)
    contain(here, incident)
    assert state(here, incident, CUT_A) is State.AWAITING
    assert seen(here, incident).dropped == (CUT_A, CUT_B)
    undo(here, incident)
    assert state(here, incident, CUT_A) is State.SKIPPED
    contain(here, incident)
    assert not here.hosts.cut


def test_a_step_that_is_running_is_taken_back_once_it_is_over(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    desk = world(tmp_path, host("a"), owner="two", shared=here.hosts)
    incident = here.incident("a")
    looking, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        looking.set()
        assert go_on.wait(10)

    here.hosts.hooks["observe", "a"] = lambda: slow() if ("observe", "a") in here.hosts.calls[1:] else None
    worker = threading.Thread(target=contain, args=(here, incident))
    worker.start()
    assert looking.wait(10)
    agreed = agree(desk, incident)
    assert agreed.plan.steps == ()
    results: list[UndoResult] = []
    other = threading.Thread(target=lambda: results.extend(TakeBack(desk.engine, "operator:c").run(agreed.plan)))
    other.start()
    go_on.set()
    worker.join(10)
    other.join(10)
    assert [(one.key, one.state) for one in results] == [(CUT_A, State.UNDONE)]
    assert not here.hosts.cut


def test_what_stayed_when_an_incident_was_closed_can_still_be_taken_back_even_while_all_is_halted(
    tmp_path: Path,
) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    here.store.transact(lambda tx: decisions.close(tx, incident.id, COMMANDER, "over"))
    here.store.transact(lambda tx: decisions.halt(tx, COMMANDER, "false alarms"))
    assert [one.state for one in undo(here, incident)] == [State.UNDONE]
    assert not here.hosts.cut


def test_whoever_comes_late_to_renew_finds_it_taken_back(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    status = here.engine.status(incident.id)
    plan = status.plan("containment")
    assert plan is not None
    undo(here, incident)
    with pytest.raises(ClaimLost, match="was taken back"):
        here.engine.with_step(plan, status.plan_step(CUT_A), lambda *_: here.hosts.cut.add("a"))
    assert not here.hosts.cut


def test_a_host_that_left_the_inventory_keeps_its_step_on_the_board(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    contain(here, incident)
    without = world(tmp_path, owner="two", shared=here.hosts)
    (result,) = undo(without, incident)
    assert state(here, incident, CUT_A) is result.state is State.UNDO_FAILED
    assert "the inventory does not have this host any more" in result.detail
    assert here.hosts.cut == {"a"}
    assert undo(here, incident)[0].gone


def leased(here: World, incident: Incident, *, changed: bool) -> None:
    """Write a journal in which the host was cut off, or found cut off, and is held."""
    until = "2036-01-01T00:00:00.000000Z"
    lease: dict[str, Json] = {"kind": "isolation", "until": until, "seconds": 60.0}
    did(here, incident, [planned(CUT_A, "a")] if changed else [])
    drafts = [] if changed else [plan_of(incident, planned(CUT_A, "a"))]
    outcome: dict[str, Json] = {"outcome": "done" if changed else "noop", "facts": {"n": changed}, "leases": [lease]}
    drafts.append(Draft(Kind.STEP_OUTCOME, "test", outcome, CUT_A, "a", 1))
    here.store.transact(lambda tx: tx.append(incident.id, *drafts))


def test_what_another_open_incident_needs_too_stays_in_force_for_that_one_which_takes_it_back_later(
    tmp_path: Path,
) -> None:
    here = world(tmp_path, host("a"))
    first, second = here.incident("a"), here.incident("a")
    leased(here, first, changed=True)
    leased(here, second, changed=False)
    (result,) = undo(here, first)
    assert (result.state, result.detail) == (
        State.UNDONE, f"stays in force for {second.number}, which needs it too"
    )  # fmt: skip
    assert not here.hosts.calls
    here.store.transact(lambda tx: decisions.close(tx, first.id, COMMANDER, "nothing", false_positive=True))
    assert list(here.engine.status(second.id).leases) == [("isolation", "a")]
    (result,) = undo(here, second)
    assert result.gone
    assert here.hosts.calls == [("undo", "a")]
    assert not here.engine.status(second.id).leases


def test_an_incident_that_only_found_a_host_cut_off_leaves_it_to_the_one_that_did_it(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    first, second = here.incident("a"), here.incident("a")
    leased(here, first, changed=True)
    leased(here, second, changed=False)
    undo(here, second)
    assert not here.hosts.calls
    here.store.transact(lambda tx: decisions.close(tx, second.id, COMMANDER, "nothing"))
    assert undo(here, first)[0].gone
    assert here.hosts.calls == [("undo", "a")]


def test_what_was_in_force_before_everything_and_nobody_else_did_is_left_and_named(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident = here.incident("a")
    leased(here, incident, changed=False)
    shown = seen(here, incident)
    assert shown.steps == ()
    assert [one.reason for one in shown.left] == [
        "it found everything in force already and changed nothing itself: release it by its own runbook"
    ]
