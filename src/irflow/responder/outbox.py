"""The outbox: work that was promised in a transaction and must happen at least once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from irflow.core.engine import Engine
from irflow.core.errors import IrflowError
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.ports import Channel, FlowStarter, OutboxItem
from irflow.responder.first_response import FirstResponse

log = logging.getLogger(__name__)

LEASE_S = 10.0
"""Nobody else gets an item for that long; after a crash it is taken up again then."""
MOST_NOTIFICATION_TRIES = 10


class Outbox:
    """Takes due items and does them in a few threads.

    starter: None when there is no Prefect. first_response: False leaves containment to Prefect.
    """

    def __init__(
        self, engine: Engine, first: FirstResponse, starter: FlowStarter | None, channel: Channel, *, respond: bool
    ) -> None:
        self._engine, self._first, self._starter, self._channel = engine, first, starter, channel
        self._respond_here = respond
        self._working: set[str] = set()
        self.holding = False
        """Whether flow runs are held back while hosts are being cut off."""
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="outbox")
        self._senders = ThreadPoolExecutor(4, thread_name_prefix="notify")

    def take(self) -> int:
        """Start all due items; responses first. Returns how many were started."""
        store, owner = self._engine.ports.store, self._engine.owner
        count = 0
        if store.halted() is None:
            for item in store.take(["respond"], owner, lease_s=LEASE_S):
                if item.id not in self._working and self._first.start(item.payload["incident"]):
                    count += 1
                    self._working.add(item.id)
                    self._pool.submit(self._guarded, item)
            self.holding = self._first.cutting()
            flows = self._starter is not None and not self.holding
            for item in store.take(["flow"], owner, lease_s=LEASE_S) if flows else ():
                count += 1
                self._pool.submit(self._guarded, item)
        for item in store.take(["notify"], owner, lease_s=60.0):
            count += 1
            self._senders.submit(self._guarded, item)
        return count

    def _guarded(self, item: OutboxItem) -> None:
        try:
            {"respond": self._respond, "flow": self._start_flow, "notify": self._notify}[item.kind](item)
        except IrflowError as error:
            self._later(item, error)
        except Exception as error:  # a thread's last line: nothing may vanish silently
            log.exception("outbox item %s (%s)", item.id, item.kind)
            self._later(item, IrflowError(f"{type(error).__name__}: {error}"))
        finally:
            self._working.discard(item.id)

    def _later(self, item: OutboxItem, error: IrflowError) -> None:
        due = self._engine.ports.clock.now() + timedelta(seconds=min(10.0, 0.5 * 2 ** min(item.attempts, 5)))
        log.warning("%s is tried again: %s", item.kind, error)
        self._engine.ports.store.again(item.id, due, str(error)[:500])

    def _respond(self, item: OutboxItem) -> None:
        if self._respond_here:
            self._first.run(item.payload["incident"])
        self._engine.ports.store.done(item.id)

    def _start_flow(self, item: OutboxItem) -> None:
        if self._starter is None:
            return
        status = self._engine.status(item.payload["incident"])
        phase = status.phases.get(item.payload["phase"])
        if status.open:
            forms = tuple(phase.forms) if phase else ()
            self._starter.start(status.incident, item.payload["phase"], key=item.payload["key"], forms=forms)
        self._engine.ports.store.done(item.id)

    def _notify(self, item: OutboxItem) -> None:
        store, incident = self._engine.ports.store, item.payload.get("incident")
        data: dict[str, Json] = {"title": item.payload.get("title"), "channels": item.payload.get("channels")}
        try:
            self._channel.send(item.payload)
        except IrflowError as error:
            if item.attempts < MOST_NOTIFICATION_TRIES:
                raise
            data["error"] = str(error)
            draft = Draft(Kind.NOTIFICATION_FAILED, self._engine.actor, data)
        else:
            draft = Draft(Kind.NOTIFICATION_SENT, self._engine.actor, data)
        if incident:
            store.transact(lambda tx: tx.append(incident, draft))
        store.done(item.id)

    def close(self) -> None:
        """Wait for what runs; what has not begun stays in the outbox."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._senders.shutdown(wait=True, cancel_futures=True)
