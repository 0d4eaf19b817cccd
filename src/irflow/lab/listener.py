"""The attacker's listener: hears the beacons of one compromised host and remembers when."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from pathlib import Path

from irflow.lab.syscalls import in_network

_LONGEST_LINE = 256


class Listener:
    """Listens in the attacker's network until closed. Only a line that carries `token` counts as a beacon."""

    def __init__(self, namespace: Path | None, addresses: tuple[str, ...], token: str) -> None:
        """Bind one free port on all addresses. Raises OSError."""
        self._token = token.encode()
        self._heard = threading.Condition()
        self._last: float | None = None
        self._waker, self._wake = socket.socketpair()
        with in_network(namespace):
            self._servers = _bind(addresses)
        self.port: int = self._servers[0].getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name=f"listener-{self.port}", daemon=True)
        self._thread.start()

    def last(self) -> float | None:
        """When the last beacon came (time.monotonic, seconds), or None."""
        with self._heard:
            return self._last

    def wait_since(self, moment: float, timeout_s: float) -> bool:
        """Whether a beacon came after `moment` (time.monotonic); waits up to timeout_s seconds for one."""
        with self._heard:
            return self._heard.wait_for(lambda: self._last is not None and self._last > moment, timeout_s)

    def close(self) -> None:
        """Stop listening; twice is fine."""
        if self._thread.is_alive():
            self._wake.send(b"x")
            self._thread.join()
        for link in (*self._servers, self._waker, self._wake):
            link.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._waker, selectors.EVENT_READ)
            for server in self._servers:
                waiting.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    link = key.fileobj
                    if not isinstance(link, socket.socket):
                        continue  # only sockets are registered; this tells the type checker
                    if link is self._waker:
                        self._hang_up(waiting)
                        return
                    if link in self._servers:
                        self._accept(waiting, link)
                    else:
                        self._hear(waiting, link)

    def _accept(self, waiting: selectors.BaseSelector, server: socket.socket) -> None:
        try:
            link, _ = server.accept()
        except OSError:
            return  # the caller hung up before it was answered
        link.setblocking(False)
        waiting.register(link, selectors.EVENT_READ)

    def _hear(self, waiting: selectors.BaseSelector, link: socket.socket) -> None:
        try:
            said = link.recv(_LONGEST_LINE)
        except OSError:
            said = b""
        waiting.unregister(link)
        link.close()
        if said.strip() == self._token:
            with self._heard:
                self._last = time.monotonic()
                self._heard.notify_all()

    def _hang_up(self, waiting: selectors.BaseSelector) -> None:
        for key in list(waiting.get_map().values()):
            link = key.fileobj
            if isinstance(link, socket.socket) and link not in (*self._servers, self._waker):
                link.close()


def _bind(addresses: tuple[str, ...]) -> list[socket.socket]:
    servers: list[socket.socket] = []
    port = 0
    try:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            server = socket.create_server((address, port), family=family, backlog=64)
            server.setblocking(False)
            servers.append(server)
            port = server.getsockname()[1]
    except OSError:
        for server in servers:
            server.close()
        raise
    return servers
