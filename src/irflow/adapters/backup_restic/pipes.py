"""Pipes to and from other programs that never wait longer than a deadline."""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import suppress

from irflow.adapters.deadline import Deadline

ROOM = 1 << 20
"""How much a pipe to a program holds (F_SETPIPE_SZ in fcntl(2)), so that it rarely waits for us, nor we for it."""


class Late(Exception):
    """The deadline came first."""


def prepare(end: int) -> int:
    """Make our end of a pipe large, and never block in it. Returns it."""
    os.set_blocking(end, False)
    with suppress(OSError):  # the account's share of pipe memory may be used up (pipe(7)); it works with less
        fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, ROOM)
    return end


def write(end: int, piece: bytes, deadline: Deadline) -> None:
    """Write all of it. Raises Late, BrokenPipeError."""
    rest = memoryview(piece)
    while rest:
        try:
            rest = rest[os.write(end, rest) :]
        except BlockingIOError:
            _wait(end, select.POLLOUT, deadline)


def read(end: int, deadline: Deadline) -> Iterator[bytes]:
    """What comes, until the other side closes. Raises Late."""
    while True:
        try:
            piece = os.read(end, 1 << 18)
        except BlockingIOError:
            _wait(end, select.POLLIN, deadline)
            continue
        if not piece:
            return
        yield piece


def _wait(end: int, event: int, deadline: Deadline) -> None:
    poll = select.poll()
    poll.register(end, event)
    if not poll.poll(deadline.left() * 1000):
        raise Late
