"""`POST /webhooks/{source}`: from a request to its answer. The order of the checks is part of the design."""

from __future__ import annotations

import json
import logging
from asyncio import get_running_loop
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response

from irflow.core.errors import IrflowError
from irflow.core.inventory import Inventory
from irflow.core.model import Json
from irflow.core.playbook import Playbook
from irflow.core.ports import Clock, Store
from irflow.intake import accept as taking
from irflow.intake.gate import Gate
from irflow.intake.refusal import Conflicting, NotAuthentic, NotUnderstood
from irflow.web.body import TooLarge, TooSlow, read_body
from irflow.web.limit import Bucket
from irflow.web.origin import is_private

log = logging.getLogger(__name__)

THREADS = 64
"""Requests that share commits; each waits for its fsync in a thread."""
MOST_WAITING = 1024
"""Requests accepted for work at once; more are told to come back, so that memory stays bounded."""


@dataclass
class Desk:
    """What the webhook route works with. gates, buckets: by source name. wake: pokes the responder, never fails."""

    gates: Mapping[str, Gate]
    store: Store
    inventory: Inventory
    playbooks: tuple[Playbook, ...]
    clock: Clock
    wake: Callable[[], None]
    pool: ThreadPoolExecutor
    buckets: dict[str, Bucket] = field(init=False)
    waiting: int = 0

    def __post_init__(self) -> None:
        self.buckets = {name: Bucket(gate.source.requests_per_minute, self.clock) for name, gate in self.gates.items()}

    async def answer(self, name: str, request: Request) -> Response:
        """Every step from the sender's proof to the durable commit, in this order."""
        gate = self.gates.get(name)
        if gate is None:
            return reply(404, {"detail": "Not Found"})  # as for any other path: no hint which sources there are
        if self.waiting >= MOST_WAITING:
            return reply(503, {"error": "busy"}, {"retry-after": "1"})
        self.waiting += 1
        try:
            gate.knock(request.headers)
            body = await read_body(request, gate.source.max_body)
            message_id = gate.enter(request.headers, body, self.clock.now())
            # Only what is authentic counts: nobody else can use up a source's share.
            pause = self.buckets[name].take()
            if pause:
                return reply(429, {"error": "too many requests"}, {"retry-after": str(pause)})
            trust = gate.trust(private=is_private(request))
            made = taking.Request(gate.source, message_id, body, self.clock.now(), trust)
            return await get_running_loop().run_in_executor(self.pool, self._take_in, gate, made)
        except NotAuthentic as error:
            log.warning("source %s: refused a request from %s: %s", name, request.client, error)
            return reply(401, {"error": "not authentic"}, {"www-authenticate": "Bearer"})
        except TooLarge as error:
            log.warning("source %s: %s", name, error)
            return reply(413, {"error": str(error)})
        except TooSlow as error:
            log.warning("source %s: %s", name, error)
            return reply(408, {"error": "too slow"}, {"connection": "close"})
        finally:
            self.waiting -= 1

    def _take_in(self, gate: Gate, request: taking.Request) -> Response:
        """Read the verified body and commit; in a thread, because the commit waits for the disk."""
        name = gate.source.name
        try:
            receipt = self._commit(gate, request)
        except Conflicting as error:
            log.warning("source %s, message %s: %s", name, request.message_id, error)
            return reply(409, {"error": str(error)})
        except IrflowError as error:
            log.error("source %s: a request could not be stored: %s", name, error)
            return reply(503, {"error": "the alert could not be stored; send it again"}, {"retry-after": "5"})
        if receipt.work:
            self.wake()
        return reply(202 if receipt.outcome == taking.ACCEPTED else 422, receipt.response)

    def _commit(self, gate: Gate, request: taking.Request) -> taking.Receipt:
        try:
            parcel = gate.kind.read(gate.source, request.body)
        except NotUnderstood as error:
            reason = str(error)
            log.warning("source %s: quarantined message %s: %s", gate.source.name, request.message_id, reason)
            return self.store.transact(lambda tx: taking.quarantine(tx, request, reason))
        return self.store.transact(lambda tx: taking.accept(tx, request, parcel, self.inventory, self.playbooks))


def reply(status: int, content: Json, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply; the same content always gives the same bytes."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return Response(
        text, status, {"x-content-type-options": "nosniff", "cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )  # fmt: skip


def webhook_routes(desk: Desk) -> APIRouter:
    """The one route by which alerts come in."""
    router = APIRouter()

    @router.post("/webhooks/{source}", status_code=202)
    async def take(source: str, request: Request) -> Response:
        return await desk.answer(source, request)

    return router
