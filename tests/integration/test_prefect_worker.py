"""The worker on a real server: it runs only what irflow ships, and comes back from every death."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets import Subprotocol
from websockets.sync.client import connect

from irflow.adapters.prefect_api import PrefectApi
from irflow.core.errors import ServiceMissing
from irflow.drill.installation import free_port
from tests.services.prefect import PrefectSite, until
from tests.services.proxy import proxy

pytestmark = pytest.mark.timeout(180)


def deploy(site: PrefectSite, flow: str, name: str, trap: Path) -> str:
    """A deployment that would run code in every way that Prefect knows of. Returns its id."""
    code = trap.with_name("trap.py")
    code.write_text(f"from prefect import flow\nopen({str(trap)!r}, 'w')\n\n@flow\ndef evil():\n    pass\n")
    flow_id = site.http.post("/flows/", json={"name": flow}).raise_for_status().json()["id"]
    touch = f"touch {trap}"
    body: dict[str, Any] = {
        "name": name,
        "flow_id": flow_id,
        "work_pool_name": "irflow",
        "entrypoint": f"{code}:evil",
        "path": str(trap.parent),
        "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": touch}}],
        "job_variables": {
            "command": touch, "working_dir": str(trap.parent),
            "env": {"EVIL": "1", "IRFLOW_HOME": str(trap.parent), "PREFECT__FLOW_ENTRYPOINT": f"{code}:evil",
                    "PYTHONPATH": str(trap.parent)},
        },
    }  # fmt: skip
    return str(site.http.post("/deployments/", json=body).raise_for_status().json()["id"])


def test_a_foreign_flow_is_refused_whatever_its_deployment_says(prefect_site: PrefectSite, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    deployment = deploy(prefect_site, "evil", "evil", trap)
    run = prefect_site.http.post(f"/deployments/{deployment}/create_flow_run", json={}).json()["id"]
    ended = prefect_site.ended(run)
    assert ended["state"]["type"] == "CRASHED"
    assert "runs only the flows that it ships" in ended["state"]["message"]
    assert not trap.exists()


def test_a_shipped_flow_runs_as_shipped_whatever_its_deployment_says(prefect_site: PrefectSite, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    deployment = deploy(prefect_site, "containment", "evil", trap)
    incident = prefect_site.incident("plain", "a")
    body = {"parameters": {"incident": incident.number}, "job_variables": {"env": {"EVIL": "2"}}}
    reply = prefect_site.http.post(f"/deployments/{deployment}/create_flow_run", json=body)
    ended = prefect_site.ended(reply.raise_for_status().json()["id"])
    assert ended["state"]["message"] == "containment has ended"
    (mark,) = prefect_site.marked(incident.accounts[0])
    assert (mark["evil"], mark["home"]) == (None, str(prefect_site.settings.home))
    assert not trap.exists()
    assert ended["name"] == f"{incident.number} containment"


def test_a_template_of_the_work_pool_counts_for_nothing(prefect_site: PrefectSite, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    template = {
        "job_configuration": {"command": f"touch {trap}", "env": {"EVIL": "3"}},
        "variables": {"type": "object", "properties": {"command": {"default": f"touch {trap}"}}},
    }
    prefect_site.http.patch("/work_pools/irflow", json={"base_job_template": template}).raise_for_status()
    incident = prefect_site.incident("plain", "a")
    assert prefect_site.ended(prefect_site.start(incident))["state"]["type"] == "COMPLETED"
    assert prefect_site.marked(incident.accounts[0])[0]["evil"] is None
    assert not trap.exists()


def test_when_the_preloaded_parent_dies_the_worker_ends_and_is_started_again(prefect_site: PrefectSite) -> None:
    held = prefect_site.incident("held", "a")
    prefect_site.start(held)
    (mark,) = until("the mark", lambda: prefect_site.marked(held.accounts[0]))
    worker = prefect_site.pid("worker")
    run = psutil.Process(mark["pid"])
    zygote = run.parent()
    assert zygote is not None
    assert zygote.ppid() == worker
    (prefect_site.marks / held.accounts[0]).with_suffix(".go").touch()
    os.kill(zygote.pid, signal.SIGKILL)
    until("the end of worker and run", lambda: not psutil.pid_exists(worker) and not run.is_running())
    until("a new worker", lambda: prefect_site.pid("worker") not in (0, worker))
    log = (prefect_site.settings.logs / "worker.log").read_text()
    assert "the preloaded parent of flow runs has died" in log
    assert "defect of irflow" not in log
    incident = prefect_site.incident("plain", "a")
    assert prefect_site.ended(prefect_site.start(incident))["state"]["type"] == "COMPLETED"


def test_when_the_worker_dies_nothing_of_it_stays_and_it_is_started_again(prefect_site: PrefectSite) -> None:
    held = prefect_site.incident("held", "a")
    run_id = prefect_site.start(held)
    until("the mark", lambda: prefect_site.marked(held.accounts[0]))
    worker = prefect_site.pid("worker")
    rest = psutil.Process(worker).children(recursive=True)
    (prefect_site.marks / held.accounts[0]).with_suffix(".go").touch()
    os.kill(worker, signal.SIGKILL)
    until("the end of all", lambda: not any(one.is_running() for one in rest))
    until("a new worker", lambda: prefect_site.pid("worker") not in (0, worker))
    ended = prefect_site.ended(prefect_site.start(held))
    assert ended["state"]["message"] == "containment has ended"
    assert len(prefect_site.marked(held.accounts[0])) == 1
    assert prefect_site.ended(run_id)["state"]["type"] == "CRASHED"


def test_a_run_that_died_with_its_worker_does_not_stay_running_for_ever(prefect_site: PrefectSite) -> None:
    held = prefect_site.incident("held", "a")
    run_id = prefect_site.start(held)
    (mark,) = until("the mark", lambda: prefect_site.marked(held.accounts[0]))
    until("the note of its process", lambda: prefect_site.run(run_id)["infrastructure_pid"])
    worker = prefect_site.pid("worker")
    for pid in (mark["pid"], worker):
        os.kill(pid, signal.SIGKILL)
    ended = prefect_site.ended(run_id)
    assert ended["state"]["type"] == "CRASHED"
    until("a new worker", lambda: prefect_site.pid("worker") not in (0, worker))


def test_the_drill_is_on_the_calendar_and_a_paused_schedule_stays_paused(prefect_site: PrefectSite) -> None:
    def schedule() -> dict[str, Any]:
        found = prefect_site.http.get("/deployments/name/drill/irflow").raise_for_status().json()
        (only,) = found["schedules"]
        return {"deployment": found["id"], **only}

    known = schedule()
    assert (known["schedule"]["cron"], known["schedule"]["timezone"], known["active"]) == ("0 3 1 * *", "UTC", True)
    at = f"/deployments/{known['deployment']}/schedules/{known['id']}"
    prefect_site.http.patch(at, json={"active": False}).raise_for_status()
    worker = prefect_site.pid("worker")
    os.kill(worker, signal.SIGTERM)
    ready = prefect_site.settings.run / "worker.ready"
    until("a new worker", lambda: ready.exists() and ready.read_text() not in ("", str(worker)))
    assert schedule()["active"] is False
    assert schedule()["id"] == known["id"]


def test_prefect_asks_for_its_password(prefect_site: PrefectSite) -> None:
    reply = httpx.post(f"{prefect_site.settings.prefect_api}/flows/filter", json={}, trust_env=False)
    assert reply.status_code in (401, 403)
    assert prefect_site.settings.prefect_auth_file.stat().st_mode & 0o777 == 0o600


def test_without_prefect_the_caller_is_told_at_once(prefect_site: PrefectSite) -> None:
    gone = prefect_site.settings.model_copy(update={"prefect_url": f"http://127.0.0.1:{free_port()}/api"})
    with closing(PrefectApi(gone)) as api, pytest.raises(ServiceMissing, match="irflow up"):
        api.start(prefect_site.incident("plain", "a"), "containment", key="k")


def test_behind_the_proxy_that_operations_shows_pages_api_and_websockets_are_reached(
    prefect_site: PrefectSite, tmp_path: Path
) -> None:
    settings = prefect_site.settings
    auth = settings.prefect_auth_file.read_text().strip()
    user, _, password = auth.partition(":")
    believing = ssl.create_default_context()
    believing.check_hostname, believing.verify_mode = False, ssl.CERT_NONE
    address = settings.prefect_api.removeprefix("http://").removesuffix("/api")
    with proxy(tmp_path / "nginx", prefect=address) as port:
        with httpx.Client(verify=believing, trust_env=False, timeout=10) as client:
            client.base_url = f"https://127.0.0.1:{port}"
            client.headers["host"] = f"prefect.example.com:{port}"
            assert client.get("/api/admin/version").status_code == 401
            assert client.get("/api/admin/version", auth=(user, password)).status_code == 200
            assert "<title>Prefect" in client.get("/", follow_redirects=True).text
        where = f"wss://prefect.example.com:{port}/api/events/out"
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as to,
            connect(where, sock=to, ssl=believing, subprotocols=[Subprotocol("prefect")]) as events,
        ):
            events.send(json.dumps({"type": "auth", "token": auth}))
            assert json.loads(events.recv(timeout=10))["type"] == "auth_success"
