"""The same runbook stepped through at a terminal, without Prefect: two people, a manual step, a wrong code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.services.codes import Phones, two_must_agree
from tests.services.irflow_site import Site, site
from tests.services.terminal import terminal

pytestmark = pytest.mark.timeout(300)

FIRST, SECOND = "first-responder", "second-responder"


@pytest.fixture
def phones() -> Phones:
    return Phones()


@pytest.fixture
def here(tmp_path: Path, phones: Phones) -> Iterator[Site]:
    """An installation around one host for which two people must agree; both operators have phones."""
    with Lab.up(1, tmp_path / "lab", level=Level.ROOT) as lab, site(tmp_path / "home", lab) as made:
        phones.for_all(made.home)
        two_must_agree(made.home, "web-1")
        yield made


def incident(here: Site) -> str:
    return here.store.incidents(limit=1)[0][0].id


def dark(here: Site) -> bool:
    return vantage.look(here.lab, here.lab.hosts[0]).dark


def test_four_steps_are_answered_at_a_terminal_one_by_hand_and_one_by_two_people(here: Site, phones: Phones) -> None:
    run = ("run", "isolate-host", "--param", "hosts=web-1", "--mode", "step", "--local", "--as", FIRST)
    with terminal(here.home, *run) as one:
        one.type("One-time code of first-responder", phones.code(FIRST))
        one.expect("Sockets and processes, before the cut on web-1")
        one.type("proceed/skip/abort", "proceed")
        one.type("note", "")
        one.type("One-time code", phones.code(FIRST))

        one.expect("cut web-1 off the network for 28800 s")
        one.type("proceed/skip/repeat/abort", "p")
        one.type("note", "go")
        one.type("One-time code", phones.wrong(FIRST))
        one.expect("not taken: this is no good code of first-responder")
        assert not dark(here)
        one.type("proceed/skip/repeat/abort", "proceed")
        one.type("note", "go")
        one.type("One-time code", phones.code(FIRST))
        one.expect("1 more must agree, at another terminal or in Prefect")
        assert not dark(here), "one of two people is not enough"
        number = here.status(incident(here)).incident.number
        step = ("step", number, "--decision", "proceed", "--as", SECOND, "--code", phones.code(SECOND))
        with terminal(here.home, *step) as other:
            assert other.end() == 0, other.seen

        one.expect("Full volatile evidence, in the order of volatility on web-1")
        assert dark(here)
        one.type("proceed/skip/repeat/abort", "proceed")
        one.type("note", "")
        one.type("One-time code", phones.code(FIRST))
        one.expect("Call the owner of web-1")
        manual = ("step", number, "--note", "called", "--evidence", "ticket 7", "--as", SECOND)
        with terminal(here.home, *manual, "--code", phones.code(SECOND)) as other:
            assert other.end() == 0, other.seen
        one.type("done/failed/skipped", "done")
        one.type("evidence", "")
        one.type("note", "")
        one.type("One-time code", phones.code(FIRST))
        one.expect("does not wait for an answer any more")
        assert one.end() == 0, one.seen
    status = here.status(incident(here))
    assert {one.state for one in status.steps.values()} == {State.DONE}
    assert status.phases["run-1"].outcome == "completed"
    decided = [(one.data["operator"], one.data["method"]) for one in here.events(incident(here), Kind.STEP_DECIDED)]
    assert decided == [(FIRST, "totp"), (FIRST, "totp"), (SECOND, "totp"), (FIRST, "totp")]
    assert not here.events(incident(here), Kind.RUN_REQUESTED), "nobody else takes over what is under way here"
    assert here.isolation(here.lab.hosts[0]).tables == 1
    assert here.verified() == []
