"""Every question has its form in Prefect, and no form asks what was answered elsewhere: looked at every few seconds.

Prefect down delays nothing: questions can be answered without it, and the forms come when it is back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from irflow.core.engine import Engine
from irflow.core.errors import IrflowError
from irflow.core.playbook import Phase
from irflow.core.ports import FlowStarter
from irflow.core.questions import questions
from irflow.core.status import IncidentStatus

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often the flow runs that show forms are looked at; each costs Prefect a request."""
ASK_S = 30.0
"""After a run was asked for, it has so long to show the form before another one is."""
SILENT = timedelta(seconds=5)
"""A run without a sign of life for so long is gone, and one that was asked for so long ago does not come."""
MOST_CLOSED = 100
"""So many incidents that closed last are looked at when a responder begins: it may have been killed just then."""
OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "GONE")


class FormKeeper:
    """Compares the questions of the journal with the suspended runs of Prefect, in a thread of its own."""

    def __init__(self, engine: Engine, starter: FlowStarter | None) -> None:
        self._engine, self._starter = engine, starter
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="forms")
        self._round: Future[None] | None = None
        self._next = 0.0
        self._known: set[str] | None = None
        self._left: set[str] = set()
        self._asked: dict[tuple[str, str], float] = {}
        self._over: set[str] = set()

    def keep(self, incidents: Sequence[str]) -> None:
        """Begin a round over all open incidents when it is time to. Never waits: a Prefect that hangs holds up nobody.

        Incidents that are closed ask nothing any more: they are looked at until none of their runs waits.
        """
        now = self._engine.ports.clock.monotonic()
        if self._starter is None or now < self._next or (self._round is not None and not self._round.done()):
            return
        self._next = now + LOOK_S
        if self._known is None:
            last = self._engine.ports.store.incidents(closed=True, limit=MOST_CLOSED)
            self._known = {incident.id for incident, _ in last}
        self._left |= self._known - set(incidents)
        self._known = set(incidents)
        self._round = self._pool.submit(self._look, (*incidents, *self._left), self._starter)

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _look(self, incidents: Sequence[str], starter: FlowStarter) -> None:
        for incident in incidents:
            try:
                status = self._engine.status(incident)
                self._compare(status, starter)
                if not status.open and self._over.issuperset(*(one.forms for one in status.phases.values())):
                    self._left.discard(incident)
            except IrflowError as error:
                log.debug("forms of %s: %s", incident, error)
                return
            except Exception:  # a thread's last line: nothing may vanish silently
                log.exception("forms of %s", incident)

    def _compare(self, status: IncidentStatus, starter: FlowStarter) -> None:
        waiting = questions(status)
        for phase, known in list(status.phases.items()):
            asked = {one.id: one.asked_at for one in waiting if one.phase == phase}
            alive = [self._alive(starter, run, shown in asked) for run, shown in list(known.forms.items())]
            of_prefect = phase in list(Phase) or known.requested_at is not None
            if asked and of_prefect and not any(alive):
                self._ask(status, phase, min(asked.values()))

    def _alive(self, starter: FlowStarter, run: str, asks: bool) -> bool:
        """Whether a flow run goes on some time. One that waits for what is not asked any more goes on now."""
        if run in self._over:
            return False
        state = starter.run_state(run)
        if state in OVER:
            self._over.add(run)
            return False
        if state == "PAUSED" and not asks:
            starter.go_on(run)
        return True

    def _ask(self, status: IncidentStatus, phase: str, since: datetime) -> None:
        """Have a flow run show what waits since then: the one that did has ended, or there was none yet."""
        incident, ports = status.incident.id, self._engine.ports
        now, young = ports.clock.monotonic(), ports.clock.now() - SILENT
        requested = status.phases[phase].requested_at or since
        if now < self._asked.get((incident, phase), -ASK_S) + ASK_S or max(since, requested) > young:
            return
        runs = ports.store.read(lambda tx: tx.runs(incident, phase))
        if any(run.executor == "prefect" and run.ended_at is None and run.heartbeat_at > young for run in runs):
            return
        self._asked[incident, phase] = now
        key = f"{incident}/{phase}/form/{status.last_seq}/{len(status.phases[phase].forms)}"
        ports.store.transact(lambda tx: tx.enqueue("flow", {"incident": incident, "phase": phase, "key": key}))
