"""Run names and tags that people find a flow run by."""

from __future__ import annotations

import contextlib

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from irflow.core.incident import Incident


def name_run(incident: Incident, what: str, *tags: str) -> None:
    """Name this flow run `IR-2026-0007 WHAT` and tag it. Prefect being away changes nothing but the name."""
    name = f"{incident.number} {what}"
    if runtime.flow_run.id is None or runtime.flow_run.name == name:
        return
    all_tags = {*runtime.flow_run.tags, "irflow", incident.number, incident.severity.value, *tags}
    with contextlib.suppress(httpx.HTTPError, PrefectException):
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, name=name, tags=sorted(all_tags))
