"""Looking at a host without logging in: does a TCP port answer?"""

from __future__ import annotations

from irflow.adapters import tcp
from irflow.adapters.deadline import Deadline
from irflow.core.inventory import Host


class TcpProber:
    """core.ports.Prober over plain sockets, made in the host's management namespace where it has one."""

    def tcp(self, host: Host, port: int, *, timeout_s: float) -> str:
        """`open`, `refused` or `silent`: no answer within timeout_s, unreachable, or a name that does not resolve.

        Raises ServiceMissing when the namespace to look from is not there: that says nothing about the host.
        """
        try:
            tcp.connect(host, port, Deadline.after(timeout_s)).close()
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "silent"
        return "open"
