"""The responder's loop: woken by web or the command line, otherwise it polls."""

from __future__ import annotations

import logging
import threading

from irflow.adapters.wake import WakeSocket
from irflow.breakglass import join_all
from irflow.config import Settings
from irflow.core.engine import Engine
from irflow.core.errors import IrflowError
from irflow.core.ports import Channel, FlowStarter
from irflow.responder.first_response import FirstResponse
from irflow.responder.forms import FormKeeper
from irflow.responder.leases import LeaseKeeper
from irflow.responder.outbox import Outbox
from irflow.responder.reconcile import reconcile
from irflow.responder.reminders import remind
from irflow.responder.unanswered import watch_questions
from irflow.responder.watch import anchor, watch_clocks

log = logging.getLogger(__name__)

LEADER_TTL_S = 5.0
HELD_POLL_S = 0.1


class Responder:
    """Everything that happens without a person asking for it at that moment."""

    def __init__(self, engine: Engine, settings: Settings, *, starter: FlowStarter | None, channel: Channel) -> None:
        self._engine, self._settings = engine, settings
        self._first = FirstResponse(engine)
        self._outbox = Outbox(engine, self._first, starter, channel, respond=settings.responder.first_response)
        self._leases = LeaseKeeper(engine)
        self._forms = FormKeeper(engine, starter)
        self._signed: dict[str, int] = {}
        self._not_joined: set[str] = set()
        self._stop = threading.Event()

    def run(self, *, ready: threading.Event | None = None) -> None:
        """Work until stop(). ready is set once wake-ups are heard."""
        socket_ = WakeSocket(self._settings.responder_socket)
        poll = self._settings.responder.poll.total_seconds()
        if ready:
            ready.set()
        log.info("the responder is ready")
        self._sign_closed()
        try:
            while not self._stop.is_set():
                self._tick()
                socket_.wait(HELD_POLL_S if self._outbox.holding else poll)
        finally:
            socket_.close()
            self._outbox.close()
            self._leases.close()
            self._forms.close()
            self._first.close()

    def stop(self) -> None:
        """End after the current round; running steps are waited for."""
        self._stop.set()

    def _tick(self) -> None:
        """One round. A failing database must not end the responder: it is told and tried again."""
        try:
            self._outbox.take()
            store = self._engine.ports.store
            if store.lead("reconciler", self._engine.owner, ttl_s=LEADER_TTL_S):
                join_all(self._settings, store, self._engine.actor, given_up=self._not_joined)
                halted = store.halted() is not None
                open_ones = [incident.id for incident, _ in store.incidents(closed=False, limit=1000)]
                for incident in open_ones:
                    self._tend(incident, halted=halted)
                if not halted:
                    self._forms.keep(open_ones)
                self._outbox.take()
        except IrflowError as error:
            log.error("%s", error)

    def _sign_closed(self) -> None:
        """Sign what closed just before the last responder ended."""
        for incident, _ in self._engine.ports.store.incidents(closed=True, limit=100):
            anchor(self._engine, incident.id, self._signed)

    def _tend(self, incident: str, *, halted: bool) -> None:
        """One incident. Leases are kept while all else is halted: letting them run out would open hosts."""
        try:
            self._leases.keep(incident)
            if halted:
                return
            reconcile(self._engine, self._settings.responder, incident)
            watch_questions(self._engine, incident)
            remind(self._engine, incident)
            watch_clocks(self._engine, incident)
            anchor(self._engine, incident, self._signed)
        except IrflowError as error:
            log.error("%s: %s", incident, error)
