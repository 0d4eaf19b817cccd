"""One flow run in a process of its own, forked from the zygote: look its flow up by name, run it, tell Prefect all."""

from __future__ import annotations

import logging
import os
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.engine import handle_engine_signals
from prefect.events.worker import EventsWorker
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogWorker
from prefect.states import Failed

from irflow.core.playbook import Phase
from irflow.flows.installation import configuration
from irflow.flows.names import PLAYBOOKS, RUNBOOKS
from irflow.flows.plain import plain
from irflow.flows.shipped import FLOWS

log = logging.getLogger(__name__)

DRAIN_S = 10.0
"""How long a finished run may take to deliver its last logs and states."""
NICENESS = 10
"""Where processors are few, what cuts hosts off goes first: the first response, or without it containment's own run."""


def run_one(flow_run_id: str, flow: str) -> int:
    """Run one flow run of a shipped flow to its end. Returns the exit status; any but 0 makes Prefect say Crashed."""
    if flow != Phase.CONTAINMENT.value or configuration().settings.responder.first_response:
        os.nice(NICENESS)
    try:
        with handle_engine_signals(UUID(flow_run_id)):
            _run(UUID(flow_run_id), flow)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        # Both are daemon threads with a queue; the process ends without Python's own tidying up.
        APILogWorker.drain_all(timeout=DRAIN_S)
        EventsWorker.drain_all(timeout=DRAIN_S)
    return 0


def _run(flow_run_id: UUID, name: str) -> None:
    with get_client(sync_client=True) as client:
        flow_run: FlowRun = client.read_flow_run(flow_run_id)
        flow = FLOWS.get(name)
        if flow is None:
            message = f"irflow runs only the flows that it ships; {plain(name)} is none of them"
            log.error("%s: %s", flow_run_id, message)
            client.set_flow_run_state(flow_run_id, Failed(message=message), force=True)
            return
    # Their forms differ from YAML to YAML: as one dictionary, and what is in it is for the flow to check.
    parameters = {"form": flow_run.parameters} if name in (RUNBOOKS, PLAYBOOKS) else None
    # Not "result": the state may have come from the API, and its data would be unpickled.
    run: Any = run_flow(flow, flow_run=flow_run, parameters=parameters, return_type="state")
    log.info("%s: %s", flow_run.name, run)
