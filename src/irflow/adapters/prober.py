"""Looking at a host without logging in: does a TCP port answer?"""

from __future__ import annotations

import socket

from irflow.adapters.netns import socket_in
from irflow.core.inventory import Host


class TcpProber:
    """core.ports.Prober over plain sockets, made in the host's management namespace where it has one."""

    def tcp(self, host: Host, port: int, *, timeout_s: float) -> str:
        """`open`, `refused` or `silent`: no answer within timeout_s, or unreachable. A name that does not resolve is
        silent too."""
        try:
            family, _, _, _, address = socket.getaddrinfo(host.address, port, type=socket.SOCK_STREAM)[0]
        except OSError:
            return "silent"
        with socket_in(host.netns, family) as sock:
            sock.settimeout(timeout_s)
            try:
                sock.connect(address)
            except ConnectionRefusedError:
                return "refused"
            except OSError:
                return "silent"
        return "open"
