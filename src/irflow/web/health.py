"""`/health`, for supervisors: whether the process works and the journal answers."""

from __future__ import annotations

import logging
from asyncio import get_running_loop, timeout
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Response

from irflow.core.errors import IrflowError
from irflow.core.ports import Store
from irflow.web.webhooks import reply

log = logging.getLogger(__name__)

HEALTH_S = 2.0


def health_routes(store: Store, pool: ThreadPoolExecutor) -> APIRouter:
    """The one route that anybody may ask."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        try:
            async with timeout(HEALTH_S):
                halted = await get_running_loop().run_in_executor(pool, store.halted)
        except (IrflowError, TimeoutError) as error:
            log.error("not healthy: %s", error or "the journal does not answer")
            return reply(503, {"status": "the journal does not answer"})
        return reply(200, {"status": "ok", "halted": halted is not None})

    return router
