"""Sockets made inside a network namespace, while the process stays where it is.

A socket belongs for ever to the namespace it was created in, so one thread per namespace that has entered it is enough
to hand out sockets to everybody (setns(2): CLONE_NEWNET concerns the calling thread only).
"""

from __future__ import annotations

import ctypes
import os
import queue
import socket
import threading
from concurrent.futures import Future

from irflow.core.errors import ServiceMissing

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

_Ask = tuple[int, "Future[socket.socket]"]
_makers: dict[str, queue.Queue[_Ask]] = {}
_lock = threading.Lock()


def socket_in(namespace: str | os.PathLike[str] | None, family: int) -> socket.socket:
    """A TCP socket in a network namespace; None is the process's own.

    Raises ServiceMissing when the namespace is gone or may not be entered.
    """
    if namespace is None:
        return socket.socket(family, socket.SOCK_STREAM)
    answer: Future[socket.socket] = Future()
    _maker(os.fspath(namespace)).put((family, answer))
    return answer.result()


def _maker(path: str) -> queue.Queue[_Ask]:
    """The queue of the thread that lives in a namespace; started when first needed, anew when the path was reused."""
    try:
        here = f"{path}@{os.stat(path).st_ino}"  # noqa: PTH116 - one call in a hot path
    except OSError as error:
        raise ServiceMissing("the network namespace is not there", where=path, hint="Is the lab up?") from error
    with _lock:
        known = _makers.get(here)
        if known is None:
            known = _makers[here] = queue.Queue()
            threading.Thread(target=_make, args=(path, known), name=f"netns {path}", daemon=True).start()
        return known


def _make(path: str, asks: queue.Queue[_Ask]) -> None:
    wrong: OSError | None = None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            wrong = OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)
    while True:
        family, answer = asks.get()
        if wrong is not None:
            answer.set_exception(
                ServiceMissing(f"cannot enter the network namespace: {wrong.strerror}", where=path, hint="Be root")
            )
            continue
        try:
            answer.set_result(socket.socket(family, socket.SOCK_STREAM))
        except OSError as error:
            answer.set_exception(error)


def _forget() -> None:
    """After a fork the threads are gone; the child starts its own."""
    global _lock
    _makers.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
