"""What the supervisor is told of a process: data only, so that it can be handed to a process of its own."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from irflow.adapters.wake import listening

ASK_S = 2.0


@dataclass(frozen=True)
class Ready:
    """How to see that a process is ready.

    `url`: it answers GET with 2xx. `socket`: a unix datagram socket takes connections. `file`: exists; removed before
    each start.
    """

    kind: Literal["url", "socket", "file"]
    where: str

    def check(self) -> bool:
        """Ask now; takes at most ASK_S seconds."""
        if self.kind == "file":
            return Path(self.where).exists()
        return _answers(self.where) if self.kind == "url" else listening(Path(self.where))


@dataclass(frozen=True)
class Service:
    """One process of a stack.

    env: added to the supervisor's own. ours: it is irflow, and may have the secrets of its environment. port: (host,
    port) that must be free before it starts. ready_s: how long it may take until it is ready. after: names of services
    that must be ready first. last: ended after the others.
    vital: when it cannot be kept alive, the whole stack ends; otherwise it is tried again now and then.
    """

    name: str
    argv: tuple[str, ...]
    ready: Ready
    env: Mapping[str, str] = field(default_factory=dict)
    port: tuple[str, int] | None = None
    ready_s: float = 60.0
    after: tuple[str, ...] = ()
    last: bool = False
    vital: bool = True
    ours: bool = True

    def to_data(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Service:
        """And back."""
        port = data["port"]
        return cls(
            **{
                **data,
                "argv": tuple(data["argv"]),
                "after": tuple(data["after"]),
                "ready": Ready(**data["ready"]),
                "port": (port[0], port[1]) if port else None,
            }
        )


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # Our own process on our own machine; its certificate is made for the name that others call it by.
        connection = http.client.HTTPSConnection(host, port, timeout=ASK_S, context=ssl._create_unverified_context())  # noqa: S323
    else:
        connection = http.client.HTTPConnection(host, port, timeout=ASK_S)
    try:
        connection.request("GET", parts.path)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
