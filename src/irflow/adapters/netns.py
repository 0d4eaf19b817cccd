"""Sockets made inside a network namespace, while the process stays where it is.

A socket belongs for ever to the namespace it was made in, and setns(2) with CLONE_NEWNET concerns the calling thread
alone: a thread enters, makes the socket and ends. One that stayed would keep a deleted namespace alive.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading

from irflow.core.errors import ServiceMissing

_CLONE_NEWNET = 0x40000000
# os.setns came with Python 3.12.
_LIBC = ctypes.CDLL(None, use_errno=True)


def socket_in(namespace: str | os.PathLike[str] | None, family: int) -> socket.socket:
    """A TCP socket in a network namespace; None is the process's own.

    namespace: a path such as /run/netns/mgmt. family: socket.AF_INET or AF_INET6.
    Raises ServiceMissing when the namespace is gone or may not be entered, OSError when there is no such socket.
    """
    if namespace is None:
        return socket.socket(family, socket.SOCK_STREAM)
    made: list[socket.socket] = []
    wrong: list[Exception] = []

    def work() -> None:
        try:
            _enter(namespace)
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except (OSError, ServiceMissing) as error:
            wrong.append(error)

    thread = threading.Thread(target=work, name="irflow netns", daemon=True)
    thread.start()
    thread.join()
    if wrong:
        raise wrong[0]
    return made[0]


def _enter(namespace: str | os.PathLike[str]) -> None:
    """Move this thread into the namespace."""
    where = os.fspath(namespace)
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ServiceMissing(
            f"the network namespace cannot be opened: {(error.strerror or '').lower()}",
            where=where,
            hint="Is it there, and may this account see it? `ip netns list` names those of this machine",
        ) from None
    try:
        if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno()).lower()
            raise ServiceMissing(
                f"the network namespace cannot be entered: {why}", where=where, hint="This needs CAP_SYS_ADMIN"
            )
    finally:
        os.close(descriptor)
