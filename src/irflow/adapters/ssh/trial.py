"""One SSH login to see whether a secret still opens an account. Nothing is run there."""

from __future__ import annotations

from collections.abc import Callable

from irflow.adapters.ssh.connect import Logins, Stream, by_key, by_password, log_in
from irflow.adapters.ssh.login import certified_key, private_key
from irflow.adapters.ssh.watchdog import Leash
from irflow.core.errors import LoginFailed
from irflow.core.inventory import Host
from irflow.core.secret import SecretRef, SecretValue


class _One:
    """A secret store that has one value for whoever asks."""

    def __init__(self, value: SecretValue) -> None:
        self._value = value

    def resolve(self, ref: SecretRef) -> SecretValue:
        return self._value


def try_login(host: Host, user: str, value: SecretValue, kind: str, leash: Leash, dial: Callable[[], Stream]) -> bool:
    """See core.rotation_means.Logins."""
    who = host.model_copy(update={"user": user, "certificate": None})
    enter = by_key(lambda: private_key(who, _One(value)))
    if kind == "password":
        enter = by_password(value.reveal().decode())
    elif kind == "certificate":
        enter = by_key(lambda: certified_key(who, value.reveal()))
    try:
        log_in(who, leash, dial, Logins(1), enter).end()
    except LoginFailed:
        return False
    return True
