"""Looking at lab hosts from outside: what the attacker (or the responder) can reach, before and after a cut."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.syscalls import in_network

Sight = Literal["open", "refused", "silent"]


@dataclass(frozen=True)
class View:
    """What one vantage point sees of a host's SSH port.

    v4, v6: `open`, `refused` or `silent`; v6 is None where the lab has none. greeting: the SSH server's first line.
    """

    v4: Sight
    v6: Sight | None
    greeting: str | None

    @property
    def dark(self) -> bool:
        """Whether nothing at all comes back."""
        return self.v4 == "silent" and self.v6 in (None, "silent") and self.greeting is None


def tcp(namespace: Path | None, address: str, port: int, *, timeout_s: float = 1.0) -> Sight:
    """Try a TCP connection (v4 or v6) from a network namespace.

    `silent` is no answer within timeout_s seconds, or an unreachable network. Raises OSError when the namespace is
    gone.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with in_network(namespace):
        link = socket.socket(family, socket.SOCK_STREAM)
    with link:
        link.settimeout(timeout_s)
        try:
            link.connect((address, port))
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "silent"
    return "open"


def ssh_greeting(namespace: Path | None, address: str, port: int, *, timeout_s: float = 1.0) -> str | None:
    """The first line of the SSH server there, or None when none comes within timeout_s seconds per wait."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with in_network(namespace):
        link = socket.socket(family, socket.SOCK_STREAM)
    with link:
        link.settimeout(timeout_s)
        try:
            link.connect((address, port))
            line = link.recv(255)
        except OSError:
            return None
    text = line.decode("ascii", errors="replace").split("\r\n")[0]
    return text if text.startswith("SSH-") else None


def look(lab: Lab, host: LabHost, vantage: str = "attacker", *, timeout_s: float = 1.0) -> View:
    """What `responder` or `attacker` sees of a host's SSH port now. Raises UsageError for another vantage point."""
    namespace = lab.netns(vantage)
    return View(
        v4=tcp(namespace, host.address, host.port, timeout_s=timeout_s),
        v6=tcp(namespace, host.address6, host.port, timeout_s=timeout_s) if host.address6 else None,
        greeting=ssh_greeting(namespace, host.address, host.port, timeout_s=timeout_s),
    )


def ssh_argv(
    lab: Lab, host: LabHost, who: str, *, user: str | None = None, key: Path | None = None, connect_s: int = 3
) -> list[str]:
    """The OpenSSH command line with which a party logs in; append the remote command. Everyone but the attacker has
    the responder's key.

    user, key: None takes the key of `who` and the account that it opens first. connect_s: seconds to wait for the
    connection.
    """
    attacker = who == "attacker"
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(connect_s),
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(lab.known_hosts),
    }
    account = user or (lab.attacker_user if attacker else lab.responder_user)
    identity = key or (lab.attacker_key if attacker else lab.responder_key)
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", *flags, "-i", str(identity), "-p", str(host.port), f"{account}@{host.address}"]
