"""One thread that ends every call at its deadline.

paramiko's own timeouts are per read, so a missing reply, dripping output or a missing exit status blocks it for ever.
Here each call is on a leash: at the deadline the watchdog cuts what the call waits for, from outside.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from irflow.adapters.deadline import Deadline

GRACE_S = 0.5
"""How long a call may take to come back after a cut before the next, harder one."""

Cut = Callable[[], None]
Timer = Callable[[], float | None]


def patience() -> None:
    """The first cut where a call sees its deadline by itself: others may share what the second one severs."""


class Leash:
    """One call under watch. fired: its deadline came. over: the call has come back."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.fired = False
        self.over = False
        self._cuts: tuple[Cut, ...] = ()
        self._made = 0
        self._lock = threading.Lock()

    def left(self) -> float:
        """Seconds left, never 0: paramiko and sockets read 0 as `do not wait at all` or `for ever`."""
        return max(0.01, self.deadline.left())

    @property
    def passed(self) -> bool:
        """Whether the call was cut, or must not go on."""
        return self.fired or self.deadline.passed

    @contextmanager
    def cutting(self, *cuts: Cut) -> Iterator[None]:
        """What to cut at the deadline while the block runs: one after the other, GRACE_S apart, until it is left.

        A cut must not block and may be made more than once.
        """
        with self._lock:
            before, self._cuts, self._made = self._cuts, cuts, 0
        try:
            yield
        finally:
            with self._lock:
                self._cuts = before

    def fire(self) -> float | None:
        """Make the next cut; returns the seconds until the one after it, None when the call is over."""
        with self._lock:
            if self.over:
                return None
            self.fired = True
            if self._cuts:
                self._cuts[min(self._made, len(self._cuts) - 1)]()
                self._made += 1
            return GRACE_S

    def end(self) -> None:
        """The call has come back: nothing is cut any more."""
        with self._lock:
            self.over = True
            self._cuts = ()


class Watchdog:
    """Runs timers, and above all the deadlines of calls, in one thread that is started when first needed."""

    _all: ClassVar[weakref.WeakSet[Watchdog]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._all.add(self)
        self._due: list[tuple[float, int, Timer]] = []
        self._serial = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def watch(self, timeout_s: float) -> Iterator[Leash]:
        """Bound everything inside the block to timeout_s seconds of wall clock."""
        leash = Leash(Deadline.after(timeout_s))
        self.at(leash.deadline.at, leash.fire)
        try:
            yield leash
        finally:
            leash.end()

    def at(self, moment: float, timer: Timer) -> None:
        """Call a timer at a time.monotonic() moment. It must not block; it returns seconds until it wants to be called
        again, or None."""
        with self._changed:
            heapq.heappush(self._due, (moment, next(self._serial), timer))
            if not self._stopped and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="irflow ssh watchdog", daemon=True)
                self._thread.start()
            if self._due[0][0] == moment:
                self._changed.notify()

    def _reborn(self) -> None:
        """A child process has its parent's objects but not its threads, one of which may have held the lock."""
        self._changed, self._thread = threading.Condition(), None

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            again = timer()
            if again is not None:
                self.at(time.monotonic() + again, timer)

    def _next(self) -> Timer | None:
        """Wait for the next timer that is due; None when stopped."""
        with self._changed:
            while not self._stopped:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
            return None


def _reborn() -> None:
    for one in list(Watchdog._all):
        one._reborn()


os.register_at_fork(after_in_child=_reborn)
