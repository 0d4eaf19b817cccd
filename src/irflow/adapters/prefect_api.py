"""Asking Prefect for a flow run by plain HTTP, so that the responder need not import Prefect (83 MB)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import httpx

from irflow.adapters.wake import wake
from irflow.config import Settings
from irflow.core.errors import ServiceMissing
from irflow.core.incident import Incident
from irflow.core.model import Json
from irflow.core.revealed import remember

TIMEOUT_S = 5.0
GONE = "GONE"
DEPLOYMENT = "irflow"
"""Every flow that irflow ships has one deployment of this name."""


def worker_socket(settings: Settings) -> Path:
    """Where a worker on this machine is woken; without one it finds the run at its next poll."""
    return settings.run / "worker.sock"


class PrefectApi:
    """core.ports.FlowStarter. The connection is kept open; deployment ids are remembered until Prefect forgets them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: httpx.Client | None = None
        self._base = ""
        self._deployments: dict[str, str] = {}

    def start(self, incident: Incident, phase: str, *, key: str, forms: Sequence[str] = ()) -> str:
        """Have a flow run of a phase, or of a runbook by itself (`run-N`); the same key never creates two.

        forms: flow runs that showed a form: one that is suspended goes on instead. Returns the id of the run that
        works now. Raises ServiceMissing when Prefect does not answer or does not know the flow.
        """
        for run_id in reversed(forms):
            if self.go_on(run_id):
                return run_id
        flow = "runbook" if phase.startswith("run-") else phase
        parameters = {"incident": incident.id} | ({"phase": phase} if flow == "runbook" else {})
        body = {
            "parameters": parameters,
            "name": f"{incident.number} {phase}",
            "tags": ["irflow", incident.number, phase, incident.severity.value, *(["drill"] if incident.drill else [])],
            "idempotency_key": key,
        }
        try:
            reply = self._post(f"/deployments/{self._deployment(flow)}/create_flow_run", body)
        except ServiceMissing:
            self._deployments.pop(flow, None)  # a Prefect with a new database has other ids
            raise
        wake(worker_socket(self._settings))
        return str(reply["id"])

    def run_state(self, run_id: str) -> str:
        """Where a flow run stands, in Prefect's words (`RUNNING`, `COMPLETED` ...): a hint, never the truth.

        `GONE` when Prefect does not know it. Raises ServiceMissing.
        """
        run = self._request("GET", f"/flow_runs/{run_id}", None, missing=True)
        state = run["state"] if run else {"type": GONE}
        return str(state["type"]) if state else "PENDING"

    def go_on(self, run_id: str) -> bool:
        """Have a suspended flow run start anew and look at the journal; False when it is not suspended.

        Not Prefect's own resume, which wants the form filled in. Raises ServiceMissing.
        """
        if self.run_state(run_id) != "PAUSED":
            return False
        state = {"type": "SCHEDULED", "name": "Resuming", "message": "answered elsewhere, or nothing is asked any more"}
        reply = self._post(f"/flow_runs/{run_id}/set_state", {"state": state})
        wake(worker_socket(self._settings))
        return str(reply["status"]) == "ACCEPT"

    def close(self) -> None:
        """Let the connection go."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _deployment(self, flow: str) -> str:
        if flow not in self._deployments:
            self._deployments[flow] = str(self._request("GET", f"/deployments/name/{flow}/{DEPLOYMENT}", None)["id"])
        return self._deployments[flow]

    def _post(self, path: str, body: dict[str, Json]) -> Json:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: dict[str, Json] | None, *, missing: bool = False) -> Json:
        """missing: answer None where Prefect knows no such thing."""
        client = self._connected()
        try:
            reply = client.request(method, f"{self._base}{path}", json=body)
            if missing and reply.status_code == httpx.codes.NOT_FOUND:
                return None
            reply.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise ServiceMissing(
                f"Prefect answered {error.response.status_code} to {path}", where=self._base,
                hint="The worker registers the flows when it starts: irflow worker",
            ) from None  # fmt: skip
        except httpx.HTTPError as error:
            raise ServiceMissing(
                f"Prefect does not answer ({type(error).__name__})", where=self._base, hint="irflow up starts it"
            ) from None
        return reply.json()

    def _connected(self) -> httpx.Client:
        """A client for the API as it is known now: our own server may come back on another port."""
        base = self._settings.prefect_api
        if self._client is None or base != self._base:
            headers = {}
            auth = self._settings.prefect_auth_file
            if auth.exists():
                login = auth.read_bytes().strip()
                remember(login.partition(b":")[2])
                headers["authorization"] = "Basic " + base64.b64encode(login).decode()
            self._client, self._base = httpx.Client(timeout=TIMEOUT_S, headers=headers, trust_env=False), base
        return self._client
