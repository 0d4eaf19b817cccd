"""Registering the work pool and the deployments, so that flows can be started and seen; what is right is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
)
from prefect.client.schemas.objects import WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from irflow.flows.names import NO_TEMPLATE, PLAYBOOKS, POOL, RUNBOOKS, WORKER_TYPE
from irflow.flows.offered import Offer, offers
from irflow.wiring import Configuration

PAGE = 200
"""As many deployments as Prefect gives at once."""
SIDE_BY_SIDE = 4
"""Requests that make deployments: the first start of an installation has fifty of them."""
SLUG = "drill"
"""Names the schedule that is ours; others are people's."""


async def register(client: PrefectClient, config: Configuration, *, forms: bool = True) -> list[str]:
    """Make the work pool and the deployments, or bring them up to date. Returns the names of what was changed.

    forms: also those that people start from their forms; containment waits for none of them.

    Deployments of runbooks and playbooks that are no more are deleted. A schedule that a person paused stays paused.
    """
    changed = ["work pool " + POOL] if await _make_pool(client) else []
    wanted = [one for one in offers(config) if forms or one.flow not in (RUNBOOKS, PLAYBOOKS)]
    known = {flow: await _known(client, flow) for flow in dict.fromkeys(offer.flow for offer in wanted)}
    new = [one for one in wanted if (found := known[one.flow].get(one.name)) is None or not _right(found, one)]
    flows = {flow: await client.create_flow_from_name(flow) for flow in dict.fromkeys(offer.flow for offer in new)}
    turn = asyncio.Semaphore(SIDE_BY_SIDE)

    async def deploy(offer: Offer) -> None:
        async with turn:
            await _deploy(client, offer, flows[offer.flow], known[offer.flow].get(offer.name))

    await asyncio.gather(*(deploy(offer) for offer in new))
    gone = await _delete_gone(client, known, {offer.path for offer in wanted})
    return changed + [offer.path for offer in new] + [f"{path} (deleted)" for path in gone]


async def _delete_gone(
    client: PrefectClient, known: Mapping[str, Mapping[str, DeploymentResponse]], kept: set[str]
) -> list[str]:
    """Delete the deployments of runbooks and playbooks that are no more. Returns their names."""
    gone = {
        f"{flow}/{name}": found.id
        for flow in (RUNBOOKS, PLAYBOOKS)
        for name, found in known.get(flow, {}).items()
        # One with another pool, or none, is somebody else's: no worker of ours would ever run it.
        if f"{flow}/{name}" not in kept and found.work_pool_name == POOL
    }
    for deployment in gone.values():
        with contextlib.suppress(ObjectNotFound):  # another worker came first
            await client.delete_deployment(deployment)
    return list(gone)


async def _make_pool(client: PrefectClient) -> bool:
    """Whether it was missing."""
    try:
        pool: WorkPool | None = await client.read_work_pool(POOL)
    except ObjectNotFound:
        pool = None
    if pool is not None:
        return False
    wanted = WorkPoolCreate(
        name=POOL, type=WORKER_TYPE, base_job_template=NO_TEMPLATE, description="Runs the flows shipped in irflow"
    )
    try:
        await client.create_work_pool(wanted)
    except ObjectAlreadyExists:  # another worker came first
        return False
    return True


async def _known(client: PrefectClient, flow: str) -> dict[str, DeploymentResponse]:
    """All deployments of a flow by name."""
    found: dict[str, DeploymentResponse] = {}
    while True:
        page = await client.read_deployments(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])), limit=PAGE, offset=len(found)
        )
        found |= {one.name: one for one in page}
        if len(page) < PAGE:
            return found


def _right(found: DeploymentResponse, offer: Offer) -> bool:
    """Whether a deployment is as it should be, whatever its version says: others may write to Prefect too."""
    return (
        found.version == offer.version
        and found.work_pool_name == POOL
        and found.enforce_parameter_schema
        and found.parameter_openapi_schema == offer.schema
        and found.description == offer.description
        and set(found.tags) == set(offer.tags)
    )


async def _deploy(client: PrefectClient, offer: Offer, flow: UUID, found: DeploymentResponse | None) -> None:
    await client.create_deployment(
        flow_id=flow,
        name=offer.name,
        version=offer.version,
        work_pool_name=POOL,
        description=offer.description,
        tags=list(offer.tags),
        entrypoint=f"irflow:{offer.flow}",
        parameter_openapi_schema=offer.schema,
        enforce_parameter_schema=True,
        pull_steps=[],
        schedules=_schedules(offer, found),
        paused=found.paused if found else False,
    )


def _schedules(offer: Offer, found: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    """Ours, paused where a person paused it, and those that people added: Prefect replaces them all."""
    known: Iterable[Any] = found.schedules if found else ()
    kept = [
        DeploymentScheduleCreate(schedule=one.schedule, active=one.active, slug=one.slug, parameters=one.parameters)
        for one in known
        if one.slug != SLUG
    ]
    if not offer.schedule:
        return kept
    active = next((one.active for one in known if one.slug == SLUG), True)
    cron = CronSchedule(cron=offer.schedule, timezone="UTC")
    return [DeploymentScheduleCreate(schedule=cron, slug=SLUG, active=active), *kept]
