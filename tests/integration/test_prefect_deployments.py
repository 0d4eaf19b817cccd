"""Runbooks and playbooks as deployments on a real Prefect server: their forms, and what starting them does and doesn't.

One-time codes are real; nothing here is checked by Prefect alone.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from ulid import ULID

from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.incident import SYSTEM, Incident
from irflow.core.journal import Event, Kind
from irflow.core.playbook import Phase, Playbook
from irflow.core.runbook import Runbook
from irflow.shipped import shipped
from tests.integration.test_prefect_worker import deploy
from tests.services.prefect import PrefectSite, running_prefect, until

pytestmark = pytest.mark.timeout(180)

RESTING = ("COMPLETED", "FAILED", "CRASHED", "PAUSED")
FILES_WITHIN_S = 45.0
"""Files are looked at every 5 s."""


@pytest.fixture(scope="module")
def site() -> Iterator[PrefectSite]:
    """One of its own: files are changed and broken here."""
    with running_prefect() as found:
        for flow in ("runbooks", "playbooks"):  # registered after the worker has begun to work
            until(f"the forms of {flow}", partial(_offered, found, flow))
        yield found


def _offered(site: PrefectSite, flow: str) -> bool:
    return catalog(flow) <= set(deployments(site, flow))


def catalog(kind: str) -> set[str]:
    """Ids of the shipped YAML."""
    return {path.stem for path in shipped(kind).glob("*.yaml")}


def deployments(site: PrefectSite, flow: str) -> dict[str, dict[str, Any]]:
    body = {"flows": {"name": {"any_": [flow]}}, "limit": 200}
    found = site.http.post("/deployments/filter", json=body).raise_for_status().json()
    return {one["name"]: one for one in found}


def ask(site: PrefectSite, path: str, form: dict[str, Any], **more: Any) -> httpx.Response:
    """Send a form as the UI does."""
    found = site.http.get(f"/deployments/name/{path}").raise_for_status().json()
    return site.http.post(f"/deployments/{found['id']}/create_flow_run", json={"parameters": form, **more})


def start(site: PrefectSite, path: str, form: dict[str, Any], **more: Any) -> str:
    return str(ask(site, path, form, **more).raise_for_status().json()["id"])


def rested(site: PrefectSite, run: str) -> dict[str, Any]:
    """The flow run, once it has ended or waits."""
    until(f"the rest of flow run {run}", lambda: site.api.run_state(run) in RESTING)
    return site.run(run)


def again(site: PrefectSite, run: str) -> dict[str, Any]:
    """Force a run to be run once more, as the UI's Retry does."""
    forced = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    before = site.run(run)["run_count"]
    site.http.post(f"/flow_runs/{run}/set_state", json=forced).raise_for_status()
    until("the next attempt", lambda: site.run(run)["run_count"] > before)
    return rested(site, run)


def count(site: PrefectSite) -> int:
    return len(site.store.incidents(limit=10_000))


def opened(site: PrefectSite, run: dict[str, Any]) -> Incident:
    """The incident that a flow run is named after."""
    found = site.store.find_incident(run["name"].partition(" ")[0])
    assert found is not None, run["state"]
    return found


def of_kind(site: PrefectSite, incident: str, kind: Kind) -> list[Event]:
    return [one for one in site.store.events(incident) if one.kind == kind]


def names(count_: int = 1) -> list[str]:
    return [f"form-{ULID()}" for _ in range(count_)]


def test_every_runbook_is_a_deployment_with_its_form_tags_and_description(site: PrefectSite) -> None:
    config = load_here(site)
    found = deployments(site, "runbooks")
    assert set(found) == set(config["runbooks"])
    assert catalog("runbooks") <= set(found)
    for name, runbook in config["runbooks"].items():
        one = found[name]
        schema = one["parameter_openapi_schema"]
        assert list(schema["properties"])[: len(runbook.parameters)] == list(runbook.parameters), name
        assert {"mode", "reason", "incident", "operator", "code"} <= set(schema["properties"])
        assert {"reason", "operator", "code"} <= set(schema["required"])
        assert one["enforce_parameter_schema"] is True
        assert {"irflow", "runbook"} <= set(one["tags"])
        assert all(step.title in one["description"] for step in runbook.steps), name
    isolate = found["isolate-host"]
    assert set(isolate["tags"]) == {"irflow", "runbook", "containment"}
    assert "**Cut hosts off the network**" in isolate["description"]
    fields = isolate["parameter_openapi_schema"]["properties"]
    assert fields["hosts"]["items"]["enum"] == ["web-1", "web-2", "db-1"]
    assert (fields["lease"]["default"], fields["mode"]["default"]) == ("8h", "automatic")
    assert "commander-1" in fields["operator"]["enum"]


def load_here(site: PrefectSite) -> dict[str, dict[str, Any]]:
    """The YAML of this installation, read as YAML alone: its actions are known to the worker only."""
    from ruamel.yaml import YAML

    found: dict[str, dict[str, Any]] = {"runbooks": {}, "playbooks": {}}
    for kind, noun in (("runbooks", Runbook), ("playbooks", Playbook)):
        for folder in (shipped(kind), site.settings.home / kind):
            for path in folder.glob("*.yaml"):
                found[kind][path.stem] = noun.model_validate(YAML(typ="safe").load(path.read_text()))
    return found


def test_every_playbook_is_a_deployment_with_its_form_and_tags(site: PrefectSite) -> None:
    config = load_here(site)
    found = deployments(site, "playbooks")
    assert set(found) == set(config["playbooks"])
    assert catalog("playbooks") <= set(found)
    for name, playbook in config["playbooks"].items():
        schema = found[name]["parameter_openapi_schema"]
        assert {"title", "severity", "reason", "operator", "code"} <= set(schema["required"]), name
        assert set(found[name]["tags"]) == {"irflow", "playbook", *(one.value for one in playbook.match.severity)}
        assert all(call.runbook in found[name]["description"] for calls in playbook.phases.values() for call in calls)
    assert "hosts" in found["system-compromise"]["parameter_openapi_schema"]["required"]
    assert "hosts" not in found["leaked-credential"]["parameter_openapi_schema"]["required"]
    assert "secrets" in found["leaked-credential"]["parameter_openapi_schema"]["properties"]


def test_the_drill_is_chosen_from_the_scenarios(site: PrefectSite) -> None:
    from irflow.drill import scenarios

    found = site.http.get("/deployments/name/drill/irflow").json()["parameter_openapi_schema"]["properties"]
    assert found["scenario"]["enum"] == list(scenarios.names()) == list(scenarios.load())
    assert ask(site, "drill/irflow", {"scenario": "--keep"}).status_code == 409


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("runbooks/isolate-host", {"hosts": ["nobody"]}),
        ("runbooks/isolate-host", {"hosts": []}),
        ("runbooks/isolate-host", {"lease": "for ever"}),
        ("runbooks/isolate-host", {"code": "12"}),
        ("runbooks/isolate-host", {"operator": "eve"}),
        ("runbooks/isolate-host", {"reason": ""}),
        ("runbooks/isolate-host", {"mode": "fast"}),
        ("runbooks/isolate-host", {"colour": "red"}),
        ("playbooks/system-compromise", {"title": "x"}),
        ("playbooks/system-compromise", {"title": "a beacon", "severity": "low"}),
    ],
)
def test_the_server_refuses_a_wrong_form(site: PrefectSite, path: str, wrong: dict[str, Any]) -> None:
    form = {"hosts": ["web-1"], "reason": "a test", "operator": "commander-1", "code": "123456", **wrong}
    assert ask(site, path, form).status_code in (409, 422)


def test_a_runbook_runs_to_its_end_and_its_run_bears_name_and_tags(site: PrefectSite) -> None:
    (name,) = names()
    run = rested(site, start(site, "runbooks/marks-plain", site.signed(names=[name], reason="because  of a test")))
    assert (run["state"]["type"], run["state"]["message"]) == ("COMPLETED", "run-1 has ended")
    found = opened(site, run)
    assert run["name"].startswith(f"{found.number} ")
    assert {"irflow", "runbook", found.number} <= set(run["tags"])
    assert len(site.marked(name)) == 1
    (asked,) = of_kind(site, found.id, Kind.RUN_REQUESTED)
    assert asked.data["key"] == f"flow-run/{run['id']}"
    (note,) = of_kind(site, found.id, Kind.NOTE)
    assert note.data["text"] == "marks-plain (run-1, automatic): because of a test"
    assert note.data["operator"] == run["parameters"]["operator"]


def test_a_run_that_is_retried_forced_or_copied_does_nothing_twice(site: PrefectSite) -> None:
    (name,) = names()
    form = site.signed(names=[name])
    run = rested(site, start(site, "runbooks/marks-plain", form))
    found, before = opened(site, run), count(site)
    for _ in range(2):
        assert again(site, run["id"])["state"]["message"] == "run-1 has ended"
    copy = rested(site, start(site, "runbooks/marks-plain", form))
    assert copy["state"]["type"] == "FAILED"
    assert "was used already" in copy["state"]["message"]
    assert (count(site), len(site.marked(name))) == (before, 1)
    assert len(of_kind(site, found.id, Kind.RUN_REQUESTED)) == 1


def test_a_run_that_was_killed_goes_on_without_a_second_code(site: PrefectSite) -> None:
    (name,) = names()
    run = start(site, "runbooks/marks-held", site.signed(names=[name]))
    (mark,) = until("the mark", lambda: site.marked(name))
    os.kill(mark["pid"], signal.SIGKILL)
    assert rested(site, run)["state"]["type"] == "CRASHED"
    (site.marks / name).with_suffix(".go").touch()
    before = count(site)
    assert again(site, run)["state"]["message"] == "run-1 has ended"
    assert (count(site), len(site.marked(name))) == (before, 1)


def test_a_run_for_an_incident_that_is_open_is_its_next_run_and_begins_once(site: PrefectSite) -> None:
    incident = site.incident("plain")
    first, second = names(2)
    form = {"incident": incident.number.lower()}
    run = rested(site, start(site, "runbooks/marks-plain", site.signed(names=[first], **form)))
    assert run["name"].startswith(incident.number)
    assert again(site, run["id"])["state"]["message"] == "run-1 has ended"
    other = rested(site, start(site, "runbooks/marks-plain", site.signed(names=[second], **form)))
    assert other["state"]["message"] == "run-2 has ended"
    assert [len(site.marked(one)) for one in (first, second)] == [1, 1]
    assert sorted(site.status(incident).phases) == ["run-1", "run-2"]


@pytest.mark.parametrize("incident", ["IR-1999-0001", "0" * 26])
def test_a_run_for_an_unknown_incident_starts_nothing(site: PrefectSite, incident: str) -> None:
    (name,) = names()
    run = rested(site, start(site, "runbooks/marks-plain", site.signed(names=[name], incident=incident)))
    assert run["state"]["message"].startswith(f"no incident {incident}")
    assert site.marked(name) == []


def test_with_a_wrong_code_nothing_starts_and_the_journal_knows(site: PrefectSite) -> None:
    (name,) = names()
    before, refused = count(site), len(of_kind(site, SYSTEM, Kind.OPERATOR_REFUSED))
    form = site.signed(names=[name])
    form["code"] = site.phones.wrong(form["operator"])
    run = rested(site, start(site, "runbooks/marks-plain", form))
    assert run["state"]["type"] == "FAILED"
    assert "no good code" in run["state"]["message"]
    assert (count(site), site.marked(name)) == (before, [])
    events = of_kind(site, SYSTEM, Kind.OPERATOR_REFUSED)[refused:]
    assert [(one.data["operator"], one.data["for"]) for one in events] == [
        (form["operator"], f"runbooks/marks-plain by flow-run/{run['id']}")
    ]


def test_who_may_only_look_starts_nothing(site: PrefectSite) -> None:
    (name,) = names()
    before = count(site)
    form = {"names": [name], "reason": "a test", "operator": "looker", "code": site.phones.code("looker")}
    assert ask(site, "runbooks/marks-plain", form).status_code == 409, "the form does not offer who may not"
    run = rested(site, start(site, "runbooks/marks-plain", form, enforce_parameter_schema=False))
    assert "looker has access monitor and may not start a runbook" in run["state"]["message"]
    assert (count(site), site.marked(name)) == (before, [])


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        ("runbooks/isolate-host", {"hosts": ["nobody"]}, "no host 'nobody'"),
        ("runbooks/isolate-host", {"hosts": []}, "hosts: name at least one"),
        ("runbooks/marks-plain", {"names": ["x"], "folder": "/etc"}, "no parameter 'folder'"),
        ("runbooks/marks-plain", {"names": ["x"], "mode": "none"}, "mode"),
        ("runbooks/marks-plain", {"names": ["x"], "operator": None}, "no good code"),
        ("playbooks/test-plain", {"title": "a test", "severity": "high"}, "at least one of accounts"),
        ("playbooks/test-plain", {"title": "a test", "severity": "high", "drill": True}, "no field 'drill'"),
    ],
)
def test_a_wrong_form_that_the_server_was_told_not_to_check_starts_nothing(
    site: PrefectSite, path: str, wrong: dict[str, Any], message: str
) -> None:
    before = count(site)
    run = rested(site, start(site, path, site.signed(**wrong), enforce_parameter_schema=False))
    assert run["state"]["type"] == "FAILED"
    assert message in run["state"]["message"]
    assert count(site) == before


def test_a_forged_deployment_starts_nothing(site: PrefectSite, tmp_path: Path) -> None:
    trap, (name,) = tmp_path / "sprung", names()
    before = count(site)
    forged = deploy(site, "runbooks", "evil", trap)
    body = {"parameters": site.signed(names=[name])}
    run = site.http.post(f"/deployments/{forged}/create_flow_run", json=body).raise_for_status().json()["id"]
    assert "there is no runbook 'evil'" in rested(site, run)["state"]["message"]
    site.http.delete(f"/deployments/{forged}")
    assert (count(site), site.marked(name), trap.exists()) == (before, [], False)


def test_a_deployment_that_was_changed_runs_the_runbook_of_its_name_as_shipped(
    site: PrefectSite, tmp_path: Path
) -> None:
    trap, (name,) = tmp_path / "sprung", names()
    changed = deploy(site, "runbooks", "marks-plain", trap)
    body = {"parameters": site.signed(names=[name]), "job_variables": {"env": {"EVIL": "2"}}}
    run = site.http.post(f"/deployments/{changed}/create_flow_run", json=body).raise_for_status().json()["id"]
    assert rested(site, run)["state"]["message"] == "run-1 has ended"
    (mark,) = site.marked(name)
    assert (mark["evil"], trap.exists()) == (None, False)


def test_in_mode_approve_nothing_runs_before_a_person_says_yes(site: PrefectSite) -> None:
    (name,) = names()
    run = rested(site, start(site, "runbooks/marks-plain", site.signed(names=[name], mode="approve")))
    assert run["state"]["type"] in ("COMPLETED", "PAUSED")
    found = opened(site, run)
    plan = site.status(found).plan("run-1")
    assert plan is not None
    assert (plan.mode, plan.people, site.marked(name)) == ("approve", 1, [])
    again(site, run["id"])
    assert site.marked(name) == [], "forcing the run is no yes"
    one = Operator(name="one", login="root", roles=("incident_commander",))
    site.store.transact(
        lambda tx: decisions.decide(tx, found.id, one, method="os-account", digest=plan.digest, yes=True)
    )
    assert again(site, run["id"])["state"]["message"] == "run-1 has ended"
    assert len(site.marked(name)) == 1


def test_a_playbook_opens_one_incident_however_often_its_run_is_run(site: PrefectSite) -> None:
    accounts = names(2)
    form = site.signed(title="a  test", severity="medium", accounts=accounts, mode="step", reason="seen by hand")
    before = count(site)
    run = rested(site, start(site, "playbooks/test-plain", form))
    assert run["state"]["type"] == "COMPLETED"
    found = opened(site, run)
    assert run["name"] == f"{found.number} test-plain"
    assert {"irflow", "playbook", "medium", found.number} <= set(run["tags"])
    assert run["state"]["message"].startswith(f"{found.number} opened; containment is on its way: http")
    assert run["state"]["message"].endswith(f"/incidents/{found.number}")
    facts = (found.title, found.playbook, found.severity, found.trust, found.mode, found.drill, list(found.accounts))
    assert facts == ("a test", "test-plain", "medium", "verified", "step", False, accounts)
    (note,) = of_kind(site, found.id, Kind.NOTE)
    assert "seen by hand" in note.data["text"]
    for _ in range(2):
        assert again(site, run["id"])["state"]["message"] == run["state"]["message"]
    assert count(site) == before + 1
    due = [one for one in site.store.pending() if one.kind == "respond" and one.payload["incident"] == found.id]
    assert len(due) == 1


def test_the_same_code_sent_four_times_at_once_starts_one_run(site: PrefectSite) -> None:
    (name,) = names()
    form, before = site.signed(names=[name]), count(site)
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: start(site, "runbooks/marks-plain", form), range(4)))
    states = sorted(rested(site, run)["state"]["type"] for run in runs)
    assert states == ["COMPLETED", "FAILED", "FAILED", "FAILED"]
    assert (count(site), len(site.marked(name))) == (before + 1, 1)


def test_deployments_follow_the_files_while_the_worker_runs(site: PrefectSite) -> None:
    home, worker = site.settings.home, site.pid("worker")
    extra = home / "runbooks" / "extra.yaml"
    step = {"id": "tell", "title": "Tell them", "manual": "Tell {{ hosts }}"}
    content = {"runbook": "extra", "title": "Extra", "parameters": {"hosts": {"type": "hosts"}}, "steps": [step]}
    others = foreign(site)
    extra.write_text(json.dumps(content))
    until("the new deployment", lambda: "extra" in deployments(site, "runbooks"), FILES_WITHIN_S)
    person_pauses(site, "runbooks/extra")

    before = {name: one["updated"] for name, one in deployments(site, "runbooks").items()}
    broken = home / "runbooks" / "broken.yaml"
    broken.write_text("runbook: broken\nsteps: 7\n")
    log = site.settings.logs / "worker.log"
    until("the complaint", lambda: "until this is mended" in log.read_text(), FILES_WITHIN_S)
    assert "broken.yaml" in log.read_text()
    assert {name: one["updated"] for name, one in deployments(site, "runbooks").items()} == before
    broken.unlink()

    people = json.loads((home / "operators.yaml").read_text())
    people["operators"]["newcomer"] = {"roles": [], "totp": "file:keys/none"}
    (home / "operators.yaml").write_text(json.dumps(people))
    until("the newcomer", lambda: "newcomer" in operators(site, "extra"), FILES_WITHIN_S)
    found = site.http.get("/deployments/name/runbooks/extra").json()
    assert ([one["active"] for one in found["schedules"]], found["paused"]) == ([False], True)

    extra.unlink()
    until("the end of the deployment", lambda: "extra" not in deployments(site, "runbooks"), FILES_WITHIN_S)
    assert set(deployments(site, "runbooks")) == {*load_here(site)["runbooks"], "theirs"}
    for one in others:
        assert site.http.get(f"/deployments/{one}").status_code == 200
        site.http.delete(f"/deployments/{one}")
    assert site.pid("worker") == worker


def operators(site: PrefectSite, runbook: str) -> list[str]:
    schema = deployments(site, "runbooks")[runbook]["parameter_openapi_schema"]
    found: list[str] = schema["properties"]["operator"]["enum"]
    return found


def foreign(site: PrefectSite) -> list[str]:
    """Deployments of others: of one of our flows without our pool, and of their flow with it."""
    made = []
    for flow, pool in (("runbooks", None), ("theirs", "irflow")):
        flow_id = site.http.post("/flows/", json={"name": flow}).raise_for_status().json()["id"]
        body = {"name": "theirs", "flow_id": flow_id, "work_pool_name": pool}
        made.append(site.http.post("/deployments/", json=body).raise_for_status().json()["id"])
    return made


def person_pauses(site: PrefectSite, path: str) -> None:
    """A schedule that a person made and paused, and the deployment paused as well."""
    found = site.http.get(f"/deployments/name/{path}").json()["id"]
    schedule = {"schedule": {"cron": "0 4 * * *"}, "active": False}
    site.http.post(f"/deployments/{found}/schedules", json=[schedule]).raise_for_status()
    site.http.patch(f"/deployments/{found}", json={"paused": True}).raise_for_status()


def test_registering_again_changes_nothing(site: PrefectSite) -> None:
    def all_() -> dict[str, str]:
        return {one["id"]: one["updated"] for flow in FLOWS for one in deployments(site, flow).values()}

    before, worker = all_(), site.pid("worker")
    os.kill(worker, signal.SIGTERM)
    ready = site.settings.run / "worker.ready"
    until("a new worker", lambda: ready.exists() and ready.read_text() not in ("", str(worker)))
    assert all_() == before


FLOWS = ("runbooks", "playbooks", "runbook", "drill", *(phase.value for phase in Phase))
