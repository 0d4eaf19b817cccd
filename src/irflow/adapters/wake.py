"""Waking the responder over a unix datagram socket; a lost wake-up costs one poll interval, nothing else."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

from irflow.core.errors import ServiceMissing

LONGEST = 107
"""Bytes that a socket's name may have (unix(7), sun_path less its end)."""


def wake(path: Path) -> None:
    """Tell the responder that there is work. Never fails: it polls anyway."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with _short(path) as name:
            sock.sendto(b"w", name)


def listening(path: Path) -> bool:
    """Whether a responder is there to be woken."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            with _short(path) as name:
                sock.connect(name)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for the socket that fits: where its own is too long, by way of an open descriptor of its folder."""
    if len(os.fsencode(path)) <= LONGEST:
        yield os.fspath(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


class WakeSocket:
    """The responder's end. path: in a folder only we can enter.

    Raises ServiceMissing when it cannot be bound.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        try:
            with _short(path) as name:
                self._sock.bind(name)
        except OSError as error:
            self._sock.close()
            raise ServiceMissing(
                f"cannot listen: {error.strerror or error}",
                where=str(path),
                hint="IRFLOW_HOME must be a folder on a local disk, with room",
            ) from error

    def wait(self, seconds: float) -> bool:
        """Sleep until woken, at most so long. Returns whether somebody woke us."""
        ready, _, _ = select.select([self._sock], [], [], seconds)
        woken = bool(ready)
        while ready:
            try:
                self._sock.recv(16)
            except BlockingIOError:
                break
        return woken

    def fileno(self) -> int:
        """For those who wait for several things."""
        return self._sock.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()
        self._path.unlink(missing_ok=True)
