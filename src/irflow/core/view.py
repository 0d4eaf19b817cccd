"""A view of an incident that is kept up to date by folding only what is new."""

from __future__ import annotations

import threading

from irflow.core.ports import Clock, Store
from irflow.core.status import IncidentStatus, fold

PATIENCE_S = 0.1
"""How old a view may be for those who only wait for news."""


class View:
    """The status of one incident, shared by the threads of a process. Read it; never change it."""

    def __init__(self, store: Store, clock: Clock, incident: str) -> None:
        self._store, self._clock, self._incident = store, clock, incident
        self._lock = threading.Lock()
        self._status: IncidentStatus | None = None
        self._read_at = 0.0

    def now(self, *, patient: bool = False) -> IncidentStatus:
        """The status after all committed events; patient: one up to 0.1 s old will do."""
        with self._lock:
            moment = self._clock.monotonic()
            if self._status is None or not patient or moment - self._read_at >= PATIENCE_S:
                after = self._status.last_seq if self._status else 0
                fresh = self._store.events(self._incident, after)
                if fresh or self._status is None:
                    self._status = fold(fresh, self._status)
                self._read_at = moment
            return self._status


class Views:
    """The views of a process, by incident."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._views: dict[str, View] = {}

    def of(self, incident: str) -> View:
        """The view of an incident."""
        with self._lock:
            return self._views.setdefault(incident, View(self._store, self._clock, incident))

    def forget(self, incident: str) -> None:
        """Drop the view of a closed incident."""
        with self._lock:
            self._views.pop(incident, None)
