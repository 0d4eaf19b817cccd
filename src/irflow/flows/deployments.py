"""Registering work pool and deployments; running it again changes nothing."""

from __future__ import annotations

from typing import Any

from prefect import Flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from irflow.config import Settings
from irflow.flows.drill import drill
from irflow.flows.phases import PHASE_FLOWS

POOL = "irflow"
WORKER_TYPE = "irflow"
DEPLOYMENT = "irflow"

FLOWS: dict[str, Flow[Any, Any]] = {one.name: one for one in (*PHASE_FLOWS, drill)}
"""All flows that the worker will ever run, by name."""


async def register(settings: Settings) -> None:
    """Make the work pool and one deployment per flow; the drill gets its monthly schedule."""
    async with get_client() as client:
        try:
            await client.read_work_pool(POOL)
        except ObjectNotFound:
            try:
                await client.create_work_pool(WorkPoolCreate(name=POOL, type=WORKER_TYPE))
            except ObjectAlreadyExists:  # another worker was quicker
                pass
        for name, one in FLOWS.items():
            flow_id = await client.create_flow(one)
            schedules = []
            if name == "drill":
                schedule = CronSchedule(cron=settings.drill_schedule, timezone="UTC")
                schedules = [DeploymentScheduleCreate(schedule=schedule, active=True)]
            await client.create_deployment(
                flow_id=flow_id,
                name=DEPLOYMENT,
                work_pool_name=POOL,
                tags=["irflow", name],
                description=one.description,
                entrypoint=f"irflow.flows:{name}",
                parameter_openapi_schema=_schema(one),
                schedules=schedules,
                enforce_parameter_schema=True,
            )


def _schema(one: Flow[Any, Any]) -> dict[str, Any]:
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(one).model_dump_for_openapi()
