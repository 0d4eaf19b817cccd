"""Undo on real hosts, through the command line: everything back byte for byte, kill -9 at every boundary, no services.

Neither Prefect, web nor responder run in any of these.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from irflow.adapters.faults import VARIABLE
from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.integration.cli_site import FIRST, SECOND, Desk, desk

pytestmark = pytest.mark.timeout(240)

ISOLATE = "containment/isolate-host.isolate@{}"
AT_ONCE = 4
# Around each commit of an undo: before it is durable, and after it.
COMMITS = ("approval.given#1", "claim#1", "undo.intent#1", "undo.outcome#1", "release#1")
BOUNDARIES = tuple(f"{when}:{point}" for point in COMMITS for when in ("before", "after"))


def start(here: Desk, *words: str, fault: str = "") -> subprocess.Popen[str]:
    """A command in a process of its own. fault: where it is to be killed."""
    argv = [sys.executable, "-m", "irflow", "--home", str(here.home), *words]
    environment = {**os.environ, VARIABLE: fault}
    return subprocess.Popen(argv, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def ruleset(lab: Lab, host: LabHost) -> bytes:
    """The firewall of a host, as the kernel prints it."""
    return lab.exec(host, ["nft", "-s", "list", "ruleset"]).stdout


def dark(lab: Lab, host: LabHost) -> bool:
    """Whether the attacker gets no answer."""
    return vantage.look(lab, host, "attacker", timeout_s=0.3).dark


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(6 + len(BOUNDARIES), tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def here(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = desk(tmp_path_factory.mktemp("site") / "home", lab)
    made.edit("irflow.yaml", lambda data: data.update(responder={"claim_stale": "1s"}))
    return made


def contained(here: Desk, *hosts: LabHost) -> str:
    """A critical incident about hosts, contained."""
    number = here.alert(*(one.name for one in hosts), severity="critical")
    here.work(number, "containment")
    assert all(dark(here.lab, one) for one in hosts)
    return number


def undo(here: Desk, number: str, *more: str, who: str = FIRST) -> Any:
    return here.irflow("undo", number, "--yes", "--as", who, *more)


def test_every_host_is_back_byte_for_byte_and_each_step_is_proved(here: Desk, lab: Lab) -> None:
    hosts = lab.hosts[:2]
    before = [ruleset(lab, one) for one in hosts]
    number = contained(here, *hosts)
    shown = here.irflow("undo", number, "--dry-run")
    assert "cut web-1 off the network" in shown.out
    assert dark(lab, hosts[0]), "a dry run changed something"
    done = undo(here, number, "--json", "--reason", "wrong hosts")
    assert done.code == 0, done.err
    assert done.json["complete"]
    assert {one["key"]: one["state"] for one in done.json["steps"]} == {
        ISOLATE.format(one.name): "undone" for one in hosts
    }
    assert all(check["passed"] for one in done.json["steps"] for check in one["checks"])
    assert [ruleset(lab, one) for one in hosts] == before
    assert not any(dark(lab, one) for one in hosts)
    assert not here.status(number).leases
    here.work(number, "containment")
    assert not any(dark(lab, one) for one in hosts), "containment did again what was taken back"
    again = undo(here, number, "--json")
    assert (again.code, again.json["steps"]) == (0, [])


@pytest.fixture(scope="module")
def killed(here: Desk, lab: Lab) -> dict[str, tuple[int, tuple[int, str, str], str]]:
    """By boundary: how the first undo ended, how the second did, and the incident."""

    def case(place: int) -> tuple[int, tuple[int, str, str], str]:
        words = ("undo", numbers[place], "--yes", "--as", FIRST, "--json")
        first, _, _ = finish(start(here, *words, fault=BOUNDARIES[place]))
        return first, finish(start(here, *words)), numbers[place]

    hosts = lab.hosts[4 : 4 + len(BOUNDARIES)]
    numbers = [here.alert(one.name, severity="critical") for one in hosts]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: here.work(number, "containment"), numbers))
        assert all(pool.map(lambda one: dark(lab, one), hosts))
        return dict(zip(BOUNDARIES, pool.map(case, range(len(BOUNDARIES))), strict=True))


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_an_undo_that_was_killed_is_brought_to_its_end_by_the_next(
    boundary: str, killed: dict[str, tuple[int, tuple[int, str, str], str]], here: Desk, lab: Lab
) -> None:
    first, second, number = killed[boundary]
    host = lab.hosts[4 + BOUNDARIES.index(boundary)]
    assert first == -signal.SIGKILL, "the first undo did not pass this boundary"
    assert second[0] == 0, second[2]
    status = here.status(number)
    assert status.step(ISOLATE.format(host.name)).state is State.UNDONE
    assert not status.leases
    assert not dark(lab, host)
    assert b"irflow" not in ruleset(lab, host)
    epochs = [one.epoch for one in events(here, number) if one.kind == Kind.UNDO_INTENT]
    assert epochs == sorted(set(epochs)), "an epoch was used twice"
    assert here.irflow("journal", "verify", number).code == 0


def events(here: Desk, number: str) -> list[Any]:
    from irflow.wiring import load, open_store

    with open_store(load(here.home).settings) as store:
        found = store.find_incident(number)
        return store.events(found.id) if found else []


def test_a_false_positive_closes_once_everything_is_back_and_stays_open_while_it_is_not(here: Desk, lab: Lab) -> None:
    near, far = lab.hosts[2:4]
    number = contained(here, near, far)
    refused = here.irflow("incidents", "close", number, "--reason", "nothing", "--as", FIRST)
    assert (refused.code, "still in force" in refused.err) == (3, True)
    lab.unplug(far)
    close = ("incidents", "close", number, "--false-positive", "--yes", "--as", FIRST, "--reason", "a test of ours")
    left = here.irflow(*close)
    assert left.code == 3, left.err
    assert f"{number} stays open" in left.err
    assert far.name in left.err
    assert here.status(number).open
    assert not dark(lab, near)
    assert f"undo_failed: {ISOLATE.format(far.name)}" in here.irflow("incidents", "show", number).out
    lab.plug(far)
    assert dark(lab, far)
    closed = here.irflow(*close)
    assert closed.code == 0, closed.err
    assert not dark(lab, far)
    last = events(here, number)[-1]
    assert (last.kind, last.data["false_positive"]) == (Kind.INCIDENT_CLOSED, True)


def test_two_people_agree_before_a_host_that_irflow_needs_is_brought_back(here: Desk, lab: Lab) -> None:
    host = lab.hosts[-1]
    number = contained(here, host)

    def own(mine: bool) -> None:
        here.edit("inventory.yaml", lambda data: data["hosts"][host.name].update(own=mine))

    own(True)
    try:
        first = undo(here, number, "--json")
        assert (first.code, first.json["still_needed"]) == (3, 1)
        assert dark(lab, host)
        assert "already agreed" in undo(here, number).err
        done = undo(here, number, who=SECOND)
        assert done.code == 0, done.err
        assert not dark(lab, host)
    finally:
        own(False)


def test_json_tells_the_whole_plan_without_doing_anything(here: Desk, lab: Lab) -> None:
    host = lab.hosts[-2]
    number = contained(here, host)
    before = len(events(here, number))
    told = here.irflow("undo", number, "--dry-run", "--json").json
    assert [one["key"] for one in told["steps"]] == [ISOLATE.format(host.name)]
    assert len(told["digest"]) == 64
    assert len(events(here, number)) == before
    assert undo(here, number, "--step", ISOLATE.format(host.name)).code == 0
