"""Registering the work pool and one deployment per shipped flow, so that they can be started and seen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import WorkPool
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema

from irflow import __version__
from irflow.adapters.prefect_api import DEPLOYMENT
from irflow.config import Settings
from irflow.flows.names import NO_TEMPLATE, POOL, WORKER_TYPE
from irflow.flows.shipped import FLOWS


async def register(client: PrefectClient, settings: Settings) -> list[str]:
    """Make the work pool and the deployments, or bring them up to date. Returns the names of what was changed.

    A deployment that is as it should be is left alone, so a schedule that a person paused stays paused.
    """
    changed = []
    try:
        pool: WorkPool | None = await client.read_work_pool(POOL)
    except ObjectNotFound:
        pool = None
    if pool is None:
        wanted = WorkPoolCreate(
            name=POOL, type=WORKER_TYPE, base_job_template=NO_TEMPLATE, description="Runs the flows shipped in irflow"
        )
        try:
            await client.create_work_pool(wanted)
            changed.append(f"work pool {POOL}")
        except ObjectAlreadyExists:  # another worker came first
            pass
    for flow in FLOWS.values():
        if await _deploy(client, flow, settings):
            changed.append(f"{flow.name}/{DEPLOYMENT}")
    return changed


async def _deploy(client: PrefectClient, flow: Flow[Any, Any], settings: Settings) -> bool:
    """Whether the deployment had to be made or changed."""
    schema = parameter_schema(flow).model_dump_for_openapi()
    schedule = settings.drill_schedule if flow.name == "drill" else ""
    version = _version(flow, schema, schedule)
    try:
        known = await client.read_deployment_by_name(f"{flow.name}/{DEPLOYMENT}")
        if known.version == version and known.work_pool_name == POOL:
            return False
    except ObjectNotFound:
        pass
    await client.create_deployment(
        flow_id=await client.create_flow_from_name(flow.name),
        name=DEPLOYMENT,
        version=version,
        work_pool_name=POOL,
        description=flow.description,
        tags=["irflow"],
        entrypoint=f"irflow:{flow.name}",
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
        pull_steps=[],
        schedules=[_cron(schedule)] if schedule else [],
    )
    return True


def _cron(schedule: str) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(schedule=CronSchedule(cron=schedule, timezone="UTC"), slug="drill", active=True)


def _version(flow: Flow[Any, Any], schema: dict[str, Any], schedule: str) -> str:
    """The version of irflow and a hash of everything that a deployment is made from."""
    text = json.dumps([flow.name, flow.description, schema, schedule], sort_keys=True)
    return f"{__version__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
