"""Read-only routes: `/health` for supervisors, `/` and `/incidents/IR-...` for people at this machine."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from asyncio import get_running_loop, timeout
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response

from irflow.core.errors import IrflowError
from irflow.core.ports import Clock, Store
from irflow.core.status import fold
from irflow.web.origin import is_local, names_no_site
from irflow.web.pages import STYLE, incident_list, incident_page, page
from irflow.web.webhooks import reply

log = logging.getLogger(__name__)

HEALTH_S = 2.0
_NUMBER = re.compile(r"(?i)IR-\d{4}-\d{4,9}|[0-9A-HJKMNP-TV-Z]{26}")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

# Nothing is loaded, run, framed or sent anywhere; the one style sheet is named by its hash.
HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def status_routes(store: Store, clock: Clock, pool: ThreadPoolExecutor) -> APIRouter:
    """The routes. Pages are for clients on this machine alone: they have no log-in."""
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

    @router.get("/")
    async def start(request: Request) -> Response:
        return await show(request, lambda: incident_list(store.incidents(limit=200), store.halted()))

    @router.get("/incidents/{number}")
    async def one(number: str, request: Request) -> Response:
        return await show(request, lambda: _incident(store, clock, number))

    async def show(request: Request, make: Callable[[], str | None]) -> Response:
        if not (is_local(request) and names_no_site(request)):
            text = "<p>Status pages are shown on this machine only, under its address. Use ssh -L to see them.</p>"
            return _html(403, page("Not here", text))
        try:
            html = await get_running_loop().run_in_executor(pool, make)
        except IrflowError as error:
            log.error("no status page: %s", error)
            return _html(503, page("Not now", "<p>The journal does not answer.</p>"))
        return _html(404, page("Not found", "<p>No such incident.</p>")) if html is None else _html(200, html)

    return router


def _incident(store: Store, clock: Clock, number: str) -> str | None:
    incident = store.find_incident(number) if _NUMBER.fullmatch(number) else None
    if incident is None:
        return None
    events = store.events(incident.id)
    return incident_page(fold(events), events, clock.now(), store.halted())


def _html(status: int, text: str) -> Response:
    return Response(text, status, HEADERS, media_type="text/html; charset=utf-8")
