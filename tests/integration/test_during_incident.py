"""What changes while an incident is under way, on real hosts: targets, plans, minds, and people who act at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.responder.unanswered import watch_questions
from irflow.shipped import shipped
from irflow.wiring import load, open_runtime, open_store
from tests.integration.cli_site import FIRST, SECOND, Desk, desk
from tests.services.irflow_site import until

pytestmark = pytest.mark.timeout(240)

CUT = "containment/isolate-host.isolate@{}"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(9, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture
def here(lab: Lab, tmp_path: Path) -> Desk:
    return desk(tmp_path / "home", lab)


def dark(lab: Lab, host: LabHost) -> bool:
    return vantage.look(lab, host, "attacker", timeout_s=0.3).dark


def intents(here: Desk, number: str, host: LabHost) -> int:
    """How often a cut of the host was begun."""
    with open_store(load(here.home).settings) as store:
        found = store.find_incident(number)
        events = store.events(found.id) if found else []
    return sum(one.kind == Kind.STEP_INTENT and one.step == CUT.format(host.name) for one in events)


def digest(here: Desk, number: str) -> str:
    """Of the containment plan as people are shown it."""
    return str(here.irflow("plan", number, "--phase", "containment", "--json").json[0]["digest"])


def test_a_host_that_is_added_midway_is_cut_and_the_first_one_is_not_touched_again(here: Desk, lab: Lab) -> None:
    first, second = lab.hosts[:2]
    number = here.alert(first.name, severity="critical")
    here.work(number, "containment")
    before = digest(here, number)
    for words, says in (
        (("web-99",), "the inventory has no host 'web-99'"),
        (("--address", lab.management_addresses[0]), "inside irflow's own management network"),
    ):
        refused = here.irflow("incidents", "add-host", number, *words, "--as", FIRST)
        assert (refused.code, says in refused.err) == (3, True), refused.err
    assert digest(here, number) == before
    added = here.irflow("incidents", "add-host", number, second.name, "--address", "203.0.113.9", "--as", FIRST)
    assert added.code == 0, added.err
    assert f"added: {second.name}, 203.0.113.9" in added.out
    assert digest(here, number) != before
    here.work(number, "containment")
    assert dark(lab, first)
    assert dark(lab, second)
    assert (intents(here, number, first), intents(here, number, second)) == (1, 1)


def test_the_same_alert_twice_is_one_incident_and_one_cut_and_says_so(here: Desk, lab: Lab) -> None:
    host = lab.hosts[2]
    path = here.home / "alert.json"
    data = {"type": "system_compromise", "severity": "critical", "title": "Beacon", "hosts": [host.name]}
    path.write_text(json.dumps({**data, "fingerprint": "one"}))
    first = here.irflow("respond", "--alert", str(path), "--as", FIRST, "--json").json["alerts"][0]
    number = here.number(first["incident_id"])
    here.work(number, "containment")
    again = here.irflow("respond", "--alert", str(path), "--as", FIRST)
    assert f"-> incident {first['incident_id']}, which has it already as alert {first['alert_id']}" in again.out
    here.work(number, "containment")
    assert len(here.irflow("incidents", "list", "--all", "--json").json) == 1
    assert intents(here, number, host) == 1


def test_two_people_who_approve_at_once_start_one_cut_and_the_second_is_told(here: Desk, lab: Lab) -> None:
    host = lab.hosts[3]
    number = here.alert(host.name)
    here.work(number, "containment")
    argv = [sys.executable, "-m", "irflow", "--home", str(here.home), "approve", number, "--phase", "containment"]
    both = [
        subprocess.Popen([*argv, "--as", who], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for who in (FIRST, SECOND)
    ]
    ended = {one.args[-1]: (*one.communicate(timeout=60), one.returncode) for one in both}  # type: ignore[index]
    late = [err for _, err, code in ended.values() if code != 0]
    assert len(late) == 1, ended
    assert "waits for an approval" in late[0]
    assert "responder approved containment at" in late[0]
    here.work(number, "containment")
    here.work(number, "containment")
    assert dark(lab, host)
    assert intents(here, number, host) == 1


def test_a_yes_to_a_plan_that_changed_meanwhile_is_refused_and_names_the_new_one(here: Desk, lab: Lab) -> None:
    first, second = lab.hosts[4:6]
    number = here.alert(first.name)
    here.work(number, "containment")
    seen = digest(here, number)
    assert here.irflow("incidents", "add-host", number, second.name, "--as", SECOND).code == 0
    outdated = here.irflow("approve", number, "--digest", seen, "--as", FIRST)
    assert (outdated.code, "the containment plan is outdated" in outdated.err) == (3, True), outdated.err
    here.work(number, "containment")
    changed = here.irflow("approve", number, "--digest", seen, "--as", FIRST)
    assert changed.code == 3, changed.err
    assert f"the plan that waits has the digest {digest(here, number)}" in changed.err
    here.work(number, "containment")
    assert not dark(lab, first)
    assert here.irflow("approve", number, "--digest", digest(here, number), "--as", FIRST).code == 0
    here.work(number, "containment")
    assert dark(lab, first)
    assert dark(lab, second)


def test_a_target_that_vanishes_between_plan_and_apply_is_named_and_stops_no_other(here: Desk, lab: Lab) -> None:
    gone, silent, healthy = lab.hosts[5:8]
    number = here.alert(gone.name, silent.name, healthy.name)
    here.work(number, "containment")
    assert here.irflow("approve", number, "--as", FIRST).code == 0
    here.edit("inventory.yaml", lambda data: data["hosts"].pop(gone.name))
    lab.unplug(silent)
    try:
        here.work(number, "containment")
    finally:
        lab.plug(silent)
    status = here.status(number)
    told = {one.name: status.step(CUT.format(one.name)) for one in (gone, silent, healthy)}
    assert [one.state for one in told.values()] == [State.FAILED, State.FAILED, State.DONE]
    assert "the inventory does not have this host any more, so nothing was done" in told[gone.name].outcome["detail"]
    assert silent.name in told[silent.name].outcome["detail"]
    assert dark(lab, healthy)
    shown = here.irflow("incidents", "show", number).out
    assert f"failed: {CUT.format(gone.name)}" in shown
    assert f"irflow retry {number}" in shown


def test_a_cut_that_nobody_answers_about_holds_for_half_an_hour_at_most(here: Desk, lab: Lab) -> None:
    host = lab.hosts[8]
    playbook = (shipped("playbooks") / "system-compromise.yaml").read_text()
    (here.home / "playbooks").mkdir(exist_ok=True)
    patient = playbook.replace("on_timeout: escalate", "on_timeout: short_lease\napproval_window: 1s")
    assert patient != playbook
    (here.home / "playbooks" / "system-compromise.yaml").write_text(patient)
    number = here.alert(host.name)
    here.work(number, "containment")
    step = CUT.format(host.name)
    with open_runtime(load(here.home), process="responder") as wired:
        found = wired.store.find_incident(number)
        assert found is not None

        def timed_out() -> bool:
            watch_questions(wired.engine, found.id)
            return here.status(number).step(step).timed_out_at is not None

        until(timed_out, 10, "the question times out")
    here.work(number, "containment")
    assert dark(lab, host)
    (lease,) = here.status(number).leases.values()
    assert 1700 < (lease.until - datetime.now(UTC)).total_seconds() <= 1800
    shown = here.irflow("approve", number, "--as", FIRST)
    assert shown.code == 0, shown.err
    assert here.status(number).step(step).short_s is None
