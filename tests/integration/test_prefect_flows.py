"""Phases as Prefect flow runs, on a real server by the real worker: what people see, and nothing is done twice."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.journal import Kind
from irflow.core.status import State
from tests.services.prefect import PrefectSite, until

pytestmark = pytest.mark.timeout(300)

HOSTILE = "x](javascript:alert(1)) <script>alert(1)</script> ![i](http://evil.example/i.png) \u202e| {{ 7*7 }}"


def test_a_phase_is_one_flow_run_with_one_task_per_step(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("plain", "a", "b", "c")
    run = prefect_site.ended(prefect_site.start(incident))
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "containment has ended")
    assert run["name"] == f"{incident.number} containment"
    assert {"irflow", incident.number, "containment", "high"} <= set(run["tags"])
    assert run["parameters"] == {"incident": incident.id}
    tasks = prefect_site.tasks(run["id"], 3)
    assert {one["name"] for one in tasks} == {f"Mark <b>it</b>: {name}" for name in incident.accounts}
    assert [one["state"]["name"] for one in tasks] == ["Completed"] * 3
    assert [len(prefect_site.marked(name)) for name in incident.accounts] == [1, 1, 1]
    status = prefect_site.status(incident)
    assert status.phases["containment"].outcome == "completed"
    started = [one for one in prefect_site.store.events(incident.id) if one.kind == Kind.RUN_STARTED]
    assert [(one.data["executor"], one.data["run"].split("/")[0]) for one in started] == [("prefect", run["id"])]


def test_a_phase_leaves_a_page_and_a_table_in_which_hostile_text_stays_text(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("failing", "a", title=HOSTILE)
    run = prefect_site.ended(prefect_site.start(incident))
    found = prefect_site.http.post(
        "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    ).json()  # fmt: skip
    by_type = {one["type"]: one for one in found}
    assert set(by_type) == {"markdown", "table"}
    text = by_type["markdown"]["data"]
    assert incident.number in text.replace("\\", "")
    for live in ("](javascript:", "<script>", "![i](", "http://evil", "\u202e"):
        assert live not in text
    table = by_type["table"]["data"]
    assert incident.accounts[0] in table
    assert "failed" in table
    assert "://" not in table


def test_a_failed_step_fails_its_task_and_the_run_names_it(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("failing", "a")
    run = prefect_site.ended(prefect_site.start(incident))
    assert run["state"]["type"] == "FAILED"
    assert f"containment/marks-failing.mark@{incident.accounts[0]}: failed" in run["state"]["message"]
    assert [one["state"]["type"] for one in prefect_site.tasks(run["id"], 1)] == ["FAILED"]
    assert prefect_site.status(incident).phases["containment"].blocked


def test_what_needs_a_person_waits_and_the_same_run_goes_on(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("asking", "a")
    run = prefect_site.suspended(prefect_site.start(incident))
    assert run["name"] == f"{incident.number} containment"
    assert prefect_site.marked(incident.accounts[0]) == []
    status = prefect_site.status(incident)
    plan, forms = status.plan("containment"), tuple(status.phases["containment"].forms)
    assert plan is not None
    one = Operator(name="one", login="root", roles=("incident_commander",))
    prefect_site.store.transact(
        lambda tx: decisions.decide(tx, incident.id, one, method="os-account", digest=plan.digest, yes=True)
    )
    assert prefect_site.api.start(incident, "containment", key="again", forms=forms) == run["id"]
    assert prefect_site.ended(run["id"])["state"]["message"] == "containment has ended"
    assert len(prefect_site.marked(incident.accounts[0])) == 1


def test_duplicated_and_forced_runs_do_nothing_twice(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("plain", "a", "b", "c", "d")
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: prefect_site.start(incident), range(4)))
    assert {prefect_site.ended(run)["state"]["type"] for run in runs} == {"COMPLETED"}
    forced = prefect_site.http.post(
        f"/flow_runs/{runs[0]}/set_state", json={"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    )  # fmt: skip
    assert forced.json()["status"] == "ACCEPT"
    until("the retry", lambda: prefect_site.run(runs[0])["run_count"] == 2)
    assert prefect_site.ended(runs[0])["state"]["type"] == "COMPLETED"
    assert [len(prefect_site.marked(name)) for name in incident.accounts] == [1] * 4
    ends = [one for one in prefect_site.store.events(incident.id) if one.kind == Kind.PHASE_ENDED]
    assert len(ends) == 1


def test_the_same_request_starts_one_run(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("plain", "a")
    assert prefect_site.start(incident, key="k" + incident.id) == prefect_site.start(incident, key="k" + incident.id)


def test_a_run_that_is_killed_is_crashed_and_the_next_one_looks_before_it_acts(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("held", "a")
    name = incident.accounts[0]
    first = prefect_site.start(incident)
    (mark,) = until("the mark", lambda: prefect_site.marked(name))
    os.kill(mark["pid"], signal.SIGKILL)
    assert prefect_site.ended(first)["state"]["type"] == "CRASHED"
    (prefect_site.marks / name).with_suffix(".go").touch()
    run = prefect_site.ended(prefect_site.start(incident))
    assert run["state"]["message"] == "containment has ended"
    assert len(prefect_site.marked(name)) == 1


def test_cancelling_ends_the_process_after_the_step_that_is_under_way(prefect_site: PrefectSite) -> None:
    incident = prefect_site.incident("held", "a")
    name = incident.accounts[0]
    run = prefect_site.start(incident)
    (mark,) = until("the mark", lambda: prefect_site.marked(name))
    process = psutil.Process(mark["pid"])
    reply = prefect_site.http.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}})
    assert reply.json()["status"] == "ACCEPT"
    log = prefect_site.settings.logs / "worker.log"
    until("the worker's hand on it", lambda: f"ending flow run {run}" in log.read_text())
    assert process.is_running(), "it did not wait for its step"
    (prefect_site.marks / name).with_suffix(".go").touch()
    until("the end of the process", lambda: not process.is_running())
    until("the cancelled state", lambda: prefect_site.api.run_state(run) == "CANCELLED")
    key = f"containment/marks-held.mark@{name}"
    assert prefect_site.status(incident).step(key).state is State.DONE


def test_a_run_for_an_unknown_incident_fails_and_says_so(prefect_site: PrefectSite) -> None:
    found = prefect_site.http.get("/deployments/name/recovery/irflow").json()
    run = prefect_site.http.post(
        f"/deployments/{found['id']}/create_flow_run", json={"parameters": {"incident": "IR-1999-0001"}}
    ).json()  # fmt: skip
    ended = prefect_site.ended(run["id"])
    assert (ended["state"]["type"], ended["state"]["message"][:24]) == ("FAILED", "no incident IR-1999-0001")
