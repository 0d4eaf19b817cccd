"""Questions that nobody answers: told once, or done for half an hour where nobody need be careful, and never longer."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.action import Change, Check, Context, Params, Proof, Registry
from irflow.core.alert import Trust
from irflow.core.approvals import Operator
from irflow.core.errors import Refused
from irflow.core.incident import Incident
from irflow.core.inventory import Caps, Host
from irflow.core.journal import Draft, Kind
from irflow.core.leases import kept
from irflow.core.model import Json, to_text
from irflow.core.phase import execute
from irflow.core.planner import Catalog
from irflow.core.severity import Severity
from irflow.core.status import State
from irflow.responder.reconcile import reconcile
from irflow.responder.unanswered import watch_questions
from tests.fakes.world import PLAYBOOK, RELEASE, RUNBOOK, Cut, FakeHosts, Free, Look, World, host, world
from tests.responder.test_reconcile import SETTINGS, Hands, messages

COMMANDER = Operator(name="c", login="root", roles=("incident_commander", "communications"))
CUT = "containment/cut-off.cut@a"
WINDOW_S = 600.0


class CutForParams(Params):
    host: str
    lease: float = 28800.0


class CutFor(Cut):
    """Cuts for so long; the host opens by itself then, as the kernel does it."""

    Params: ClassVar[type[Any]] = CutForParams

    def __init__(self, hosts: FakeHosts) -> None:
        super().__init__(hosts)
        self.until: dict[str, datetime] = {}

    def observe(self, params: Any, context: Context) -> dict[str, Json]:
        if context.ports.clock.now() >= self.until.get(params.host, context.ports.clock.now()):
            self._hosts.cut.discard(params.host)
        return {**super().observe(params, context), "lease": params.lease}

    def verify(
        self, params: Any, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        until = self.until[params.host] = context.ports.clock.now() + timedelta(seconds=params.lease)
        lease: dict[str, Json] = {"kind": "isolation", "until": to_text(until), "seconds": params.lease}
        return Proof((Check("is cut", params.host in self._hosts.cut),), {}, (lease,))


def answering(folder: Path, *hosts: Host, on_timeout: str = "short_lease", caps: Caps = Caps()) -> World:
    """A world whose containment waits for a person, with a clock moved by hand."""
    folder.mkdir(exist_ok=True)
    here = world(folder, *hosts, caps=caps, clock=Hands())
    playbook = PLAYBOOK.model_copy(update={"on_timeout": on_timeout, "auto_approve": {}})
    fake = here.hosts
    actions = Registry([CutFor(fake), Look(fake), Free(fake)])
    runbooks = {"cut-off": RUNBOOK, "set-free": RELEASE}
    catalog = here.engine.catalog
    here.engine.catalog = Catalog({"test": playbook}, runbooks, actions, catalog.inventory, catalog.expressions)
    return here


def contain(here: World, incident: Incident) -> None:
    with ThreadExecutor() as executor:
        execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")


def wait(here: World, incident: Incident, seconds: float) -> None:
    """Time goes by; the responder looks twice, and containment runs where that was asked for."""
    clock = here.engine.ports.clock
    assert isinstance(clock, Hands)
    clock.move(seconds)
    watch_questions(here.engine, incident.id)
    watch_questions(here.engine, incident.id)
    for item in here.store.take(["respond"], "test", lease_s=1):
        here.store.done(item.id)
        contain(here, incident)


def approve(here: World, incident: Incident, *, yes: bool = True) -> None:
    plan = decisions.waiting_plan(here.engine.status(incident.id), None)
    here.store.transact(
        lambda tx: decisions.decide(tx, incident.id, COMMANDER, method="t", digest=plan.digest, yes=yes)
    )


def lease_s(here: World, incident: Incident) -> list[float]:
    return [one.seconds for one in here.engine.status(incident.id).leases.values()]


def asked(here: World, **more: Any) -> Incident:
    incident = here.incident("a", **{"severity": Severity.HIGH, **more})
    contain(here, incident)
    assert here.engine.status(incident.id).waiting()
    assert not here.hosts.cut
    return incident


def test_people_are_told_once_when_nobody_answered_and_nothing_is_done(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"), on_timeout="escalate")
    incident = asked(here)
    wait(here, incident, WINDOW_S - 1)
    assert not [one for one in messages(here) if "nobody answered" in one]
    wait(here, incident, 1)
    wait(here, incident, WINDOW_S)
    (told,) = [one for one in messages(here) if "nobody answered" in one]
    assert "nobody answered within 10 min about the containment plan: Cut on a" in told
    assert not here.hosts.cut
    approve(here, incident)
    contain(here, incident)
    assert here.hosts.cut == {"a"}


def test_an_unanswered_cut_is_made_for_half_an_hour_and_the_journal_says_why(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"))
    incident = asked(here)
    wait(here, incident, WINDOW_S)
    assert here.hosts.cut == {"a"}
    assert lease_s(here, incident) == [1800.0]
    (event,) = [one for one in here.store.events(incident.id) if one.kind == Kind.APPROVAL_TIMED_OUT]
    assert (event.data["short"], event.data["seconds"], event.actor) == ([CUT], 1800.0, "irflow:test")
    assert any("done all the same on a for 30 min, then undone by itself" in one for one in messages(here))


def test_a_short_lease_is_not_renewed_and_when_it_ends_the_question_is_open_again(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"))
    incident = asked(here)
    wait(here, incident, WINDOW_S)
    assert kept(here.engine.status(incident.id)) == ()
    reconcile(here.engine, SETTINGS, incident.id)
    wait(here, incident, 1799)
    assert here.engine.status(incident.id).leases
    wait(here, incident, 1)
    status = here.engine.status(incident.id)
    assert (status.leases, kept(status), status.step(CUT).state) == ({}, (), State.AWAITING)
    assert any("the isolation of a has ended: nobody agreed to it in time" in one for one in messages(here))
    applied = here.hosts.calls.count(("apply", "a"))
    wait(here, incident, 10 * WINDOW_S)
    contain(here, incident)
    assert here.hosts.calls.count(("apply", "a")) == applied == 1


def test_a_yes_while_it_holds_makes_it_a_lease_like_any_other(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"))
    incident = asked(here)
    wait(here, incident, WINDOW_S)
    approve(here, incident)
    assert [one.kind for one in kept(here.engine.status(incident.id))] == ["isolation"]
    wait(here, incident, 1800)
    assert here.engine.status(incident.id).leases


def test_a_yes_after_it_ended_cuts_the_host_anew_and_a_no_leaves_it_open(tmp_path: Path) -> None:
    for yes in (True, False):
        here = answering(tmp_path / str(yes), host("a"))
        incident = asked(here)
        wait(here, incident, WINDOW_S)
        wait(here, incident, 1800)
        assert decisions.expired(here.engine.status(incident.id).step(CUT))
        approve(here, incident, yes=yes)
        contain(here, incident)
        assert (lease_s(here, incident) == [28800.0]) is yes
        assert here.hosts.calls.count(("apply", "a")) == (2 if yes else 1)


def test_a_no_while_it_holds_lets_it_run_out_for_good(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"))
    incident = asked(here)
    wait(here, incident, WINDOW_S)
    approve(here, incident, yes=False)
    wait(here, incident, 1800)
    assert here.engine.status(incident.id).step(CUT).state is State.REFUSED


@pytest.mark.parametrize(
    ("careful", "more", "caps"),
    [
        ({"protected": True}, {}, Caps()),
        ({"own": True}, {}, Caps()),
        ({"criticality": "critical"}, {}, Caps()),
        ({}, {"trust": Trust.UNVERIFIED}, Caps()),
        ({}, {}, Caps(hosts=0)),
    ],
    ids=["protected", "irflow needs it", "matters more than the incident", "sender not verified", "above the cap"],
)
def test_where_somebody_must_be_careful_silence_is_no_yes(
    tmp_path: Path, careful: dict[str, Any], more: dict[str, Any], caps: Caps
) -> None:
    here = answering(tmp_path, host("a", **careful), caps=caps)
    incident = asked(here, **more)
    wait(here, incident, WINDOW_S)
    assert not here.hosts.cut
    assert any("nobody answered" in one for one in messages(here))


def test_an_approval_after_the_incident_was_closed_says_so(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"))
    incident = asked(here)
    plan = here.engine.status(incident.id).plan("containment")
    assert plan is not None
    here.store.transact(lambda tx: decisions.close(tx, incident.id, COMMANDER, "over"))
    with pytest.raises(Refused, match=f"{incident.number} is closed since .*, so nothing of it runs any more"):
        here.store.transact(
            lambda tx: decisions.decide(tx, incident.id, COMMANDER, method="t", digest=plan.digest, yes=True)
        )


def test_another_change_of_the_plan_asks_anew(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"), host("b"))
    incident = asked(here)
    wait(here, incident, WINDOW_S - 10)
    here.store.transact(
        lambda tx: tx.append(incident.id, Draft(Kind.HOST_ADDED, "t", {"hosts": ["b"], "addresses": []}))
    )
    contain(here, incident)
    wait(here, incident, 10)
    assert not here.hosts.cut, "the new question was asked only ten seconds ago"


def test_changes_show_what_was_intended(tmp_path: Path) -> None:
    here = answering(tmp_path, host("a"))
    incident = asked(here)
    wait(here, incident, WINDOW_S)
    (intent,) = [one for one in here.store.events(incident.id) if one.kind == Kind.STEP_INTENT and one.step == CUT]
    assert intent.data["seen"]["lease"] == 1800.0
    assert Change.from_data(intent.data["changes"][0]).data == {"host": "a"}
