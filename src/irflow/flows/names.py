"""Names that Prefect knows us by."""

from __future__ import annotations

from typing import Any

POOL = "irflow"
WORKER_TYPE = "irflow"
NO_TEMPLATE: dict[str, Any] = {"job_configuration": {"env": {}}, "variables": {"type": "object", "properties": {}}}
"""Nothing can be set for a run: the worker would ignore it."""
RUNBOOKS, PLAYBOOKS = "runbooks", "playbooks"
"""The two flows of which every deployment is one YAML, and bears its id as name."""
