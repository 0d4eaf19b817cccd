"""The processes of `irflow up` over a lab, each under a supervisor of its own, so that it can be kept down."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from standardwebhooks import Webhook

from irflow.adapters.faults import ONCE_VARIABLE, VARIABLE
from irflow.adapters.prefect_api import PrefectApi
from irflow.drill.installation import SOURCE
from irflow.lab.lab import Lab
from irflow.supervisor.handle import Handle
from irflow.supervisor.service import Service
from irflow.supervisor.stack import services_for, web_url
from tests.services.irflow_site import Site, site, until

BACK_S = 120.0


@dataclass(frozen=True)
class Letter:
    """One signed request, to be sent as often as one likes."""

    body: bytes
    headers: dict[str, str]


@dataclass
class Running:
    """A running stack. handles: of the supervisors, by service. told: what they reported."""

    site: Site
    web_url: str
    services: dict[str, Service]
    handles: dict[str, Handle] = field(default_factory=dict)
    markers: dict[str, Path] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    # ------------------------------------------------------------ alerts

    def letter(self, *hosts: str, severity: str = "critical") -> Letter:
        """An alert about hosts, signed now."""
        body = json.dumps(
            {
                "type": "system_compromise", "severity": severity, "title": "Beacon", "hosts": list(hosts),
                "fingerprint": secrets.token_hex(8),
            }
        )  # fmt: skip
        id_, now = f"test_{secrets.token_hex(12)}", datetime.now(UTC)
        signature = Webhook(self.site.installation.webhook_key).sign(id_, now, body)
        headers = {
            "webhook-id": id_, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature,
            "content-type": "application/json",
        }  # fmt: skip
        return Letter(body.encode(), headers)

    def post(self, letter: Letter) -> httpx.Response:
        url = f"{self.web_url}/webhooks/{SOURCE}"
        return httpx.post(url, content=letter.body, headers=letter.headers, timeout=10, trust_env=False)

    def alert(self, *hosts: str, severity: str = "critical") -> str:
        """Send an alert; the incident's id."""
        reply = self.post(self.letter(*hosts, severity=severity))
        assert reply.status_code == 202, reply.text
        return str(reply.json()["alerts"][0]["incident_id"])

    # ------------------------------------------------------------ processes

    def start(self, name: str, fault: str = "") -> None:
        """Start a service under its supervisor. fault: where it is killed, once."""
        env = dict(self.services[name].env)
        if fault:
            marker = self.site.home / f"fault-{secrets.token_hex(4)}"
            env |= {VARIABLE: fault, ONCE_VARIABLE: str(marker)}
            self.markers[name] = marker
        settings = self.site.config.settings
        service = replace(self.services[name], env=env)
        self.handles[name] = Handle([service], settings.run / f"of-{name}", settings.logs, self.told.append)
        self.handles[name].start()

    def stop(self, name: str) -> None:
        """End a service and its supervisor: it stays down."""
        self.handles.pop(name).stop()

    def restart(self, name: str, fault: str = "") -> None:
        """End it and start it again, maybe with a fault in it."""
        self.stop(name)
        self.start(name, fault)

    def struck(self, name: str) -> bool:
        """Whether the fault has killed somebody."""
        return self.markers[name].exists()

    def pid(self, name: str) -> int:
        """Its process id, 0 while it is down."""
        return self.handles[name].pids().get(name, 0) if name in self.handles else 0

    def kill(self, name: str) -> int:
        """kill -9, of this one process. Returns the process id it had."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def back(self, name: str, old: int) -> None:
        """Wait until the supervisor has started it again and it answers."""
        ready = self.services[name].ready
        until(lambda: self.pid(name) not in (0, old) and ready.check(), BACK_S, f"{name} is back")

    def flow_processes(self) -> list[int]:
        """The forked processes of flow runs: children of the worker's child."""
        with suppress(psutil.Error):
            return [run.pid for zygote in psutil.Process(self.pid("worker")).children() for run in zygote.children()]
        return []

    # ------------------------------------------------------------ Prefect

    def force(self, incident: str, phase: str) -> str:
        """Have Prefect make one more flow run, as a person can in its UI. Returns its id."""
        found = self.site.store.find_incident(incident)
        assert found is not None
        with closing(PrefectApi(self.site.config.settings)) as api:
            return api.start(found, phase, key=secrets.token_hex(8))

    def prefect(self, method: str, path: str, body: object = None) -> Any:
        """One request to Prefect's API, as its UI makes them; its answer."""
        settings = self.site.config.settings
        user, _, password = settings.prefect_auth_file.read_text().strip().partition(":")
        reply = httpx.request(
            method, settings.prefect_api + path, json=body, auth=(user, password), timeout=10, trust_env=False
        )
        return reply.raise_for_status().json()

    def runs(self, number: str, *states: str) -> list[dict[str, Any]]:
        """The flow runs of an incident's containment in these states; all of them without any."""
        chosen = {"state": {"type": {"any_": list(states)}}} if states else {}
        body = {"flow_runs": {"tags": {"all_": [number, "containment"]}, **chosen}}
        found: list[dict[str, Any]] = self.prefect("POST", "/flow_runs/filter", body)
        return found

    def run_state(self, run: str) -> str:
        return str(self.prefect("GET", f"/flow_runs/{run}")["state"]["type"])


@contextmanager
def running_stack(home: Path, lab: Lab, **settings: object) -> Iterator[Running]:
    """All of irflow's processes around a lab. settings: lines of irflow.yaml."""
    with site(home, lab, **settings) as here:
        found = services_for(here.config.settings)
        running = Running(here, web_url(here.config.settings), {one.name: one for one in found})
        try:
            with ThreadPoolExecutor() as pool:  # the worker waits for Prefect by itself
                list(pool.map(running.start, running.services))
            yield running
        finally:
            for name in list(running.handles):
                running.stop(name)
