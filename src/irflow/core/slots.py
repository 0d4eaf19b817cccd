"""Slots for parallel work: cuts come first, then their confirmations, then everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

CONFIRM_AFTER_S = 15.0
"""A confirmation that waited this long goes first: a quarter of the 60 s kernel timer that it must beat."""

STAND_BACK_S = 5.0
"""How long other work stands back while cuts are under way; a hung host must not hold up everybody's evidence."""

KEPT_FREE = 4
"""One slot in so many is never given to other work: a backup may hold its slot for an hour, and the cuts of the next
incident must not wait for it."""


class Rank(IntEnum):
    """How urgent a piece of work is.

    With many hosts all are cut before the first is confirmed, which cuts the last one in about half the time; and
    collecting evidence from the first must not slow down cutting the last.
    """

    CUT = 0
    CONFIRM = 1
    OTHER = 2


@dataclass(eq=False)
class _Ticket:
    """A place in the queue."""

    rank: Rank
    since: float
    turn: threading.Event


class Slots:
    """At most `count` holders at once, the most urgent first, in the order they came."""

    def __init__(self, count: int, monotonic: Callable[[], float]) -> None:
        self.count = count
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held = dict.fromkeys(Rank, 0)
        self._waiting: list[_Ticket] = []

    @property
    def cutting(self) -> bool:
        """Whether something is being cut off or confirmed, or waits for that."""
        busy = self._held[Rank.CUT] + self._held[Rank.CONFIRM]
        return busy > 0 or any(ticket.rank is not Rank.OTHER for ticket in list(self._waiting))

    @property
    def waiting(self) -> int:
        """How much work is queued."""
        return len(self._waiting)

    @contextmanager
    def hold(self, rank: Rank) -> Iterator[None]:
        """Hold a slot for a piece of work."""
        ticket = _Ticket(rank, self._monotonic(), threading.Event())
        with self._lock:
            self._waiting.append(ticket)
            self._grant()
        while not ticket.turn.wait(1.0):  # patience runs out without anything else happening
            with self._lock:
                self._grant()
        try:
            yield
        finally:
            with self._lock:
                self._held[rank] -= 1
                self._grant()

    def _grant(self) -> None:
        """Give free slots to whoever is next. The queue is in order of arrival, so min() takes the oldest."""
        while self._waiting and sum(self._held.values()) < self.count:
            ticket = min(self._waiting, key=self._urgency)
            if not self._may(ticket):
                return
            self._waiting.remove(ticket)
            self._held[ticket.rank] += 1
            ticket.turn.set()

    def _may(self, ticket: _Ticket) -> bool:
        if ticket.rank is not Rank.OTHER:
            return True
        if self._held[Rank.OTHER] >= self.count - self.count // KEPT_FREE:
            return False
        busy = self._held[Rank.CUT] + self._held[Rank.CONFIRM]
        return not busy or self._monotonic() - ticket.since > STAND_BACK_S

    def _urgency(self, ticket: _Ticket) -> int:
        late = ticket.rank is Rank.CONFIRM and self._monotonic() - ticket.since > CONFIRM_AFTER_S
        return -1 if late else int(ticket.rank)
