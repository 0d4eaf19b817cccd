"""TCP connections to hosts of the inventory: bounded in time, names and all, in the namespace the host is seen from."""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any

from irflow.adapters.deadline import Deadline
from irflow.adapters.netns import socket_in
from irflow.core.inventory import Host

Address = tuple[int, tuple[Any, ...]]


def connect(host: Host, port: int, deadline: Deadline) -> socket.socket:
    """A connected socket; each address of a name is tried in turn, sharing the time that is left.

    Raises socket.gaierror when the name does not resolve, ConnectionRefusedError, TimeoutError or another OSError as
    the last address gave it, and ServiceMissing when the host's network namespace is not there.
    """
    addresses = resolve(host.address, port, deadline)
    last: OSError = TimeoutError("no time left")
    for tried, (family, address) in enumerate(addresses):
        sock = socket_in(host.netns, family)
        try:
            sock.settimeout(max(0.001, deadline.left() / (len(addresses) - tried)))
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last


def resolve(name: str, port: int, deadline: Deadline) -> list[Address]:
    """(family, socket address) pairs of an IP address or a DNS name.

    getaddrinfo(3) knows no timeout, so a name is looked up in a thread that is left to end by itself when it is late.
    Raises socket.gaierror, TimeoutError.
    """
    try:
        return _lookup(name, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # not an address, so a name
    answers: queue.SimpleQueue[list[Address] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_lookup(name, port, 0))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, name=f"irflow resolve {name}", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.001, deadline.left()))
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _lookup(name: str, port: int, flags: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:  # a label that is too long or empty cannot be written in DNS
        raise socket.gaierror(socket.EAI_NONAME, "not a valid name") from None
    return [(family, address) for family, _, _, _, address in found]
