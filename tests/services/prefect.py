"""A real Prefect server and irflow's worker, with an action and playbooks of their own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from ulid import ULID

from irflow.adapters.catalog import load_settings
from irflow.adapters.journal_sql import SqlStore
from irflow.adapters.prefect_api import PrefectApi
from irflow.config import Settings
from irflow.core.alert import Trust
from irflow.core.incident import Incident
from irflow.core.mode import Mode
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus, fold
from irflow.drill.installation import free_port
from irflow.supervisor.handle import Handle
from irflow.supervisor.stack import services_for
from irflow.wiring import open_store
from tests.services.codes import STEP_S, Phones

PLUGIN = Path(__file__).parent / "plugin"
WAIT_S = 60.0
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

HOSTS = {
    "web-1": {"address": "192.0.2.1", "key": "file:keys/none", "groups": ["web"]},
    "web-2": {"address": "192.0.2.2", "key": "file:keys/none", "groups": ["web"]},
    "db-1": {"address": "192.0.2.3", "key": "file:keys/none", "protected": True},
}
"""Nobody answers there."""
TITLES = {"plain": {}, "held": {"hold": True}, "failing": {"fail": True}, "asking": {}, "guided": {}}
PEOPLE = tuple(f"commander-{number}" for number in range(1, 41))
"""Operators with phones of their own: a code is taken once, so whoever answers often has to wait."""


TELL = {
    "id": "tell", "title": "Tell the owner", "manual": "Call the owner of *it*.", "role": "incident_commander",
    "fields": {
        "ticket": {"type": "string", "required": True, "description": "Number of the ticket"},
        "minutes": {"type": "integer"},
        "owner_said": {"type": "string", "choices": ["yes", "no"]},
    },
}  # fmt: skip


def until(what: str, check: Callable[[], Any], within_s: float = WAIT_S) -> Any:
    """Wait for a true answer and return it."""
    deadline = time.monotonic() + within_s
    while not (answer := check()):
        assert time.monotonic() < deadline, f"{what} did not come within {within_s} s"
        time.sleep(0.03)
    return answer


@dataclass
class PrefectSite:
    """A running server and worker. told: what their supervisor reported."""

    settings: Settings
    store: SqlStore
    handle: Handle
    api: PrefectApi
    http: httpx.Client
    marks: Path
    phones: Phones
    told: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=lambda: list(PEOPLE))

    def signed(self, **form: Any) -> dict[str, Any]:
        """A form filled in by such an operator, with a reason and a code."""
        name = self.person()
        self.phones.used[name] = int(time.time()) // STEP_S - 1  # this step's code: good for at least 30 s more
        return {"reason": "a test", "operator": name, "code": self.phones.code(name), **form}

    def person(self) -> str:
        """An operator who has not answered anything yet."""
        return self.people.pop(0)

    def incident(self, kind: str, *names: str, title: str = "t", mode: Mode = Mode.AUTOMATIC) -> Incident:
        """Open an incident whose containment marks one file per name. kind: a key of TITLES."""
        found = Incident(
            id=str(ULID()), type=f"test_{kind}", severity=Severity.HIGH, trust=Trust.VERIFIED, title=title,
            accounts=tuple(f"{names_}-{ULID()}" for names_ in names), playbook=f"test-{kind}",
            detected_at=datetime.now(UTC), mode=mode,
        )  # fmt: skip
        return self.store.transact(lambda tx: tx.open_incident(found, "test"))

    def status(self, incident: Incident) -> IncidentStatus:
        return fold(self.store.events(incident.id))

    def start(self, incident: Incident, phase: str = "containment", key: str = "") -> str:
        return self.api.start(incident, phase, key=key or str(ULID()))

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/flow_runs/{run_id}").raise_for_status().json()
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        """The flow run, once it has ended."""
        until(f"the end of flow run {run_id}", lambda: self.api.run_state(run_id) in OVER)
        return self.run(run_id)

    def suspended(self, run_id: str, after: str = "") -> dict[str, Any]:
        """The flow run, once it is suspended with a form. after: pause key of the form before."""

        def look() -> dict[str, Any]:
            run = self.run(run_id)
            there = run["state"]["type"] == "PAUSED" and run["state"]["state_details"]["pause_key"] != after
            assert run["state"]["type"] not in OVER, run["state"]
            return run if there else {}

        answer: dict[str, Any] = until(f"the form of flow run {run_id}", look)
        return answer

    def form(self, run: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """(schema, description) of the form that a suspended run shows."""
        keys = run["state"]["state_details"]["run_input_keyset"]
        schema, text = (self.http.get(f"/flow_runs/{run['id']}/input/{keys[one]}") for one in ("schema", "description"))
        return schema.json(), text.json()

    def answer(self, run: dict[str, Any], who: str, code: str = "", **given: Any) -> dict[str, Any]:
        """Fill in the form as Prefect's UI does. Returns what the server says to it."""
        body = {"operator": who, "code": code or self.phones.code(who), **given}
        reply = self.http.post(f"/flow_runs/{run['id']}/resume", json={"run_input": body})
        found: dict[str, Any] = reply.json()
        return found

    def forge(self, run: dict[str, Any], **given: Any) -> str:
        """Put an answer where Prefect keeps them, past its own checks, and have the run look. Returns its key."""
        key = f"suspended-{run['state']['state_details']['pause_key']}-response"
        body = {"key": key, "value": json.dumps(given)}
        self.http.post(f"/flow_runs/{run['id']}/input", json=body).raise_for_status()
        assert self.api.go_on(run["id"])
        return key

    def logged(self, run_id: str, text: str) -> bool:
        """Whether the run has written something so far."""
        found = self.http.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [run_id]}}}).json()
        return any(text in one["message"] for one in found)

    def tasks(self, run_id: str, count: int) -> list[dict[str, Any]]:
        """Task runs in their final states; Prefect's server learns of them some time later."""

        def look() -> list[dict[str, Any]]:
            found = self.http.post("/task_runs/filter", json={"flow_runs": {"id": {"any_": [run_id]}}}).json()
            ended = [one for one in found if one["state"] and one["state"]["type"] in OVER]
            return found if len(ended) == len(found) == count else []

        answer: list[dict[str, Any]] = until(f"{count} task runs", look)
        return answer

    def marked(self, name: str) -> list[dict[str, Any]]:
        """What the action wrote: one entry for each time it was applied."""
        path = self.marks / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def pid(self, name: str) -> int:
        return self.handle.pids().get(name, 0)


def _write(home: Path, marks: Path, phones: Phones) -> None:
    for kind in ("playbooks", "runbooks"):
        (home / kind).mkdir(parents=True)
    keys = home / "keys"
    data: dict[str, Any] = {
        "irflow.yaml": {"prefect_port": free_port(), "web_port": free_port(), "responder": {"claim_stale": "3s"}},
        "sources.yaml": {"sources": {}},
        "inventory.yaml": {"hosts": HOSTS},
        "operators.yaml": {
            "operators": {
                "one": {"login": "root", "roles": ["incident_commander"]},
                "looker": {"roles": ["incident_commander"], "access": "monitor", "totp": phones.enrol("looker", keys)},
                "speaker": {"roles": ["communications"], "totp": phones.enrol("speaker", keys)},
                **{name: {"roles": ["incident_commander"], "totp": phones.enrol(name, keys)} for name in PEOPLE},
            }
        },
    }
    for kind, more in TITLES.items():
        step = {
            "id": "mark", "title": "Mark <b>it</b>", "action": "test.mark", "for_each": "{{ names }}",
            "with": {"folder": str(marks), "name": "{{ item }}", **more}, "timeout": "30s",
            **({"approval": "incident_commander"} if kind == "asking" else {}),
        }  # fmt: skip
        names = {"names": {"type": "strings", "required": True}}
        steps = [step, TELL, {**step, "id": "again", "title": "Mark again", "with": {
            "folder": str(marks), "name": "{{ item }}-again"}}] if kind == "guided" else [step]  # fmt: skip
        data[f"runbooks/marks-{kind}.yaml"] = {
            "runbook": f"marks-{kind}", "title": "Marks", "parameters": names, "steps": steps,
        }  # fmt: skip
        call = {"runbook": f"marks-{kind}", "with": {"names": "{{ incident.accounts }}"}}
        data[f"playbooks/test-{kind}.yaml"] = {
            "playbook": f"test-{kind}", "title": "Test", "roles": {"incident_commander": "oncall"},
            "match": {"types": [f"test_{kind}"]},
            "phases": {"containment": [call]},
        }  # fmt: skip
    for name, content in data.items():
        (home / name).write_text(json.dumps(content))


@contextmanager
def running_prefect() -> Iterator[PrefectSite]:
    """Server and worker, gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="irflow-prefect-"))
    home, marks = root / "home", root / "marks"
    marks.mkdir()
    phones = Phones()
    _write(home, marks, phones)
    settings = load_settings(home)
    path = os.pathsep.join(filter(None, (str(PLUGIN), os.environ.get("PYTHONPATH", ""))))
    services = [
        replace(one, env={**one.env, "PYTHONPATH": path})
        for one in services_for(settings)
        if one.name in ("prefect", "worker")
    ]
    told: list[str] = []
    handle = Handle(services, settings.run, settings.logs, told.append)
    try:
        handle.start()
        user, _, password = settings.prefect_auth_file.read_text().strip().partition(":")
        http = httpx.Client(base_url=settings.prefect_api, auth=(user, password), timeout=10, trust_env=False)
        with http, open_store(settings) as store, closing(PrefectApi(settings)) as api:
            yield PrefectSite(settings, store, handle, api, http, marks, phones, told)
    finally:
        handle.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def prefect_site() -> Iterator[PrefectSite]:
    """One server and worker for all tests of a file; one that waited for the next file would work meanwhile."""
    with running_prefect() as site:
        yield site
