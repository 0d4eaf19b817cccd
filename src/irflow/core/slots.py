"""Slots for parallel work: cuts come before confirmations, unless a confirmation has waited too long."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

PATIENCE_S = 15.0
"""A confirmation that waited this long goes first: a quarter of the 60 s kernel timer that it must beat."""


class Slots:
    """At most `count` holders at once. With many hosts, all are cut before the first is confirmed,
    which cuts the last host in about half the time (facts: peers, reading 5)."""

    def __init__(self, count: int, monotonic: Callable[[], float]) -> None:
        self.count = count
        self._free = count
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._queue: list[tuple[int, float, int, threading.Event]] = []
        self._serial = 0

    def apply(self) -> AbstractContextManager[None]:
        """Hold a slot for observing and applying."""
        return self._hold(0)

    def verify(self) -> AbstractContextManager[None]:
        """Hold a slot for confirming and proving."""
        return self._hold(1)

    @contextmanager
    def _hold(self, rank: int) -> Iterator[None]:
        turn = threading.Event()
        with self._lock:
            if self._free and not self._queue:
                self._free -= 1
                turn.set()
            else:
                self._serial += 1
                heapq.heappush(self._queue, (rank, self._monotonic(), self._serial, turn))
        turn.wait()
        try:
            yield
        finally:
            with self._lock:
                if not self._queue:
                    self._free += 1
                else:
                    self._next().set()

    def _next(self) -> threading.Event:
        """The turn of whoever is next; an old confirmation jumps the queue."""
        late = self._monotonic() - PATIENCE_S
        waiting = [entry for entry in self._queue if entry[0] == 1 and entry[1] < late]
        if waiting:
            entry = min(waiting, key=lambda one: one[1])
            self._queue.remove(entry)
            heapq.heapify(self._queue)
            return entry[3]
        return heapq.heappop(self._queue)[3]
