"""One thread that ends every call at its deadline, by shutting down the socket underneath it.

paramiko's own timeouts are per read and cannot bound a call: a missing reply, dripping output or a missing exit status
blocks for ever.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class Cuttable(Protocol):
    """What can be shut down: a socket, or a channel through a jump host."""

    def shutdown(self, how: int, /) -> None:
        """Shut it down for reading and writing."""
        ...


@dataclass(order=True)
class Leash:
    """One call under watch. fired: its deadline came."""

    at: float
    serial: int
    sock: Cuttable | None = field(compare=False)
    fired: bool = field(default=False, compare=False)

    def left(self) -> float:
        """Seconds left, at least 0.05."""
        return max(0.05, self.at - time.monotonic())


class Watchdog:
    """Shuts down sockets at their deadlines."""

    def __init__(self) -> None:
        self._heap: list[Leash] = []
        self._changed = threading.Condition()
        self._serial = 0
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, sock: Cuttable | None, timeout_s: float) -> Iterator[Leash]:
        """Bound everything inside the block to timeout_s seconds of wall clock."""
        leash = self._add(sock, time.monotonic() + timeout_s)
        try:
            yield leash
        finally:
            with self._changed:
                leash.sock = None

    def _add(self, sock: Cuttable | None, at: float) -> Leash:
        with self._changed:
            self._serial += 1
            leash = Leash(at, self._serial, sock)
            heapq.heappush(self._heap, leash)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ssh watchdog", daemon=True)
                self._thread.start()
            self._changed.notify()
            return leash

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._heap and (self._heap[0].at <= now or self._heap[0].sock is None):
                    leash = heapq.heappop(self._heap)
                    if leash.sock is not None:
                        leash.fired = True
                        with contextlib.suppress(OSError):
                            leash.sock.shutdown(socket.SHUT_RDWR)
                self._changed.wait(self._heap[0].at - now if self._heap else None)


WATCHDOG = Watchdog()


def _renew() -> None:
    """A forked child has no threads: it gets a watchdog of its own."""
    WATCHDOG.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_renew)
