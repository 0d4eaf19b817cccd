"""The flows that irflow ships. Nothing else is ever run by its worker, whatever Prefect's database says."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from prefect import Flow

from irflow.flows.drill import drill
from irflow.flows.phases import containment, detection, lessons_learned, recovery, runbook
from irflow.flows.started import playbooks, runbooks

FLOWS: Mapping[str, Flow[Any, Any]] = MappingProxyType(
    {one.name: one for one in (detection, containment, recovery, lessons_learned, runbook, drill, runbooks, playbooks)}
)
