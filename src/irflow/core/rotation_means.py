"""What targets and engines are opened with: ports to hosts, to Vault and to secrets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from irflow.core.errors import IrflowError
from irflow.core.inventory import Host, Inventory
from irflow.core.ports import Shell
from irflow.core.secret import SecretStore, SecretValue


class VaultCalls(Protocol):
    """Calls to a Vault with irflow's login."""

    def call(self, where: str, do: Callable[[Any], Any]) -> Any:
        """Do something with a client that is logged in. where: the path, for errors."""
        ...

    def fresh(self, where: str, do: Callable[[Any], Any]) -> Any:
        """Do something with a client that nobody has logged in, as somebody from outside."""
        ...

    def enters_with(self, value: SecretValue) -> bool:
        """Whether irflow itself logs in with this secret, as its reference leads to it now."""
        ...

    def renew(self) -> None:
        """Log in anew at the next call, with what the references lead to by then."""
        ...


class Logins(Protocol):
    """Tries SSH logins, as somebody who has stolen a secret would."""

    def admits(self, host: Host, user: str, value: SecretValue, kind: str, *, timeout_s: float) -> bool:
        """Whether the host lets `user` in with it. kind: `password`; `key` for a private key in OpenSSH's form;
        `certificate` for such a key and, below it, a certificate for it.

        Raises HostUnreachable, HostKeyUnknown, HostKeyChanged when it cannot be told, and NotOffered when the host
        takes no secret of this kind from anybody.
        """
        ...


class NotOffered(IrflowError):
    """The host lets nobody in with secrets of this kind."""


@dataclass(frozen=True)
class Means:
    """What targets are opened with. shell, logins: None where there is no SSH; vault: None where there is no Vault."""

    secrets: SecretStore
    inventory: Inventory = field(default_factory=Inventory)
    shell: Shell | None = None
    logins: Logins | None = None
    vault: VaultCalls | None = None
