"""What the targets on hosts have in common: scripts of remote/ as root, and log-ins from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from irflow.core.errors import ConfigurationError, RemoteFailed
from irflow.core.inventory import Host
from irflow.core.ports import Shell
from irflow.core.rotation import Document, Overtaken, SecretBusy, TargetRefused
from irflow.core.rotation_means import Logins, Means
from irflow.core.secret import SecretValue

CALL_S, LOGIN_S = 30.0, 15.0
_OVERTAKEN, _CANNOT = 75, (65, 67, 69)
"""Exit statuses of the scripts, see their heads."""


@dataclass(frozen=True)
class Account:
    """An account of an inventory host, and how to work on it."""

    host: Host
    name: str
    shell: Shell
    logins: Logins

    @classmethod
    def find(cls, host: str, account: str, means: Means) -> Account:
        """The account. Raises ConfigurationError when the inventory has no such host or nothing reaches it."""
        found = means.inventory.hosts.get(host)
        if found is None:
            raise ConfigurationError(f"the inventory has no host {host!r}", hint="irflow hosts list")
        if means.shell is None or means.logins is None:
            raise ConfigurationError("this process has no SSH", where=host, hint="Let the responder do it")
        return cls(found, account, means.shell, means.logins)

    def change(
        self, script: str, verb: str, document: Document, args: Sequence[str] = (), secret: SecretValue | None = None
    ) -> None:
        """Have a script change it. Raises as change_host."""
        change_host(self.shell, self.host, script, verb, document, ["--account", self.name, *args], secret)

    def admits(self, value: SecretValue, kind: str) -> bool:
        """Log in from outside. Raises as core.rotation_means.Logins.admits."""
        return self.logins.admits(self.host, self.name, value, kind, timeout_s=LOGIN_S)


def change_host(
    shell: Shell,
    host: Host,
    script: str,
    verb: str,
    document: Document,
    args: Sequence[str] = (),
    secret: SecretValue | None = None,
) -> None:
    """Have a script change a host, fenced by the document's version.

    Raises TargetRefused, Overtaken, SecretBusy, and what core.ports.Shell.run raises.
    """
    id_ = hashlib.sha256(document.name.encode()).hexdigest()[:12]
    fenced = [verb, "--id", id_, "--epoch", str(document.version), "--step", "rotation"]
    try:
        shell.run(host, script, [*fenced, *args], timeout_s=CALL_S, secret=secret)
    except RemoteFailed as error:
        if error.status == _OVERTAKEN:
            busy = "does not end" in error.message
            raise (SecretBusy if busy else Overtaken)(error.message, where=host.name) from None
        if error.status in _CANNOT:
            raise TargetRefused(error.message, where=host.name) from None
        raise
