"""Calls to a Vault: one client per thread, one token for all of them, one new login when it has died."""

from __future__ import annotations

import hmac
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import hvac

from irflow.adapters.vault.failures import VaultDenied, VaultUnreachable, named
from irflow.adapters.vault.mounts import Mounts
from irflow.core.errors import ConfigurationError
from irflow.core.revealed import remember
from irflow.core.secret import SecretRef, SecretStore, SecretValue

T = TypeVar("T")


@dataclass(frozen=True)
class Login:
    """Where Vault is and how irflow gets in. role, secret: references to the AppRole's role-id and secret-id.

    ca: certificate of the server's authority; None for the system's. timeout_s: for one call.
    """

    url: str
    role: SecretRef
    secret: SecretRef
    ca: Path | None = None
    timeout_s: int = 8


class Session:
    """A login to Vault that threads share. bootstrap: resolves the references of the login, never to Vault itself."""

    def __init__(self, login: Login, bootstrap: SecretStore) -> None:
        self._login, self._bootstrap = login, bootstrap
        self._mine = threading.local()
        self._entering = threading.Lock()
        self._token = ""
        self.mounts = Mounts()

    def call(self, where: str, do: Callable[[hvac.Client], T]) -> T:
        """Do something with a client that is logged in. where: the path, for errors.

        Denied and expired look the same to Vault's callers: only when the token is dead is it tried once more.
        Raises the errors of failures.py.
        """
        token = self._enter("")
        try:
            return self._once(where, token, do)
        except VaultDenied:
            if self._alive(token):
                raise
        return self._once(where, self._enter(token), do)

    def fresh(self, where: str, do: Callable[[hvac.Client], T]) -> T:
        """Do something with a client that nobody has logged in: what anybody from outside could do. Raises as call."""
        return self._once(where, "", do)

    def enters_with(self, value: SecretValue) -> bool:
        """See core.rotation_means.VaultCalls."""
        return hmac.compare_digest(self._bootstrap.resolve(self._login.secret).reveal(), value.reveal())

    def renew(self) -> None:
        """Log in anew at the next call, with what the references lead to by then; the old token is left as it is."""
        with self._entering:
            self._token = ""

    def describe(self) -> str:
        """With which policies irflow is logged in. Raises as call."""
        said = self.call("auth/token/lookup-self", lambda client: client.auth.token.lookup_self())["data"]
        return f"policies {', '.join(sorted(said['policies']))}"

    def _once(self, where: str, token: str, do: Callable[[hvac.Client], T]) -> T:
        client = self._client()
        client.token = token
        with named(where):
            return do(client)

    def _client(self) -> hvac.Client:
        """This thread's own: requests' sessions are not made for more than one."""
        ca = self._login.ca
        if ca and not os.access(ca, os.R_OK):
            raise ConfigurationError(
                "the certificate of Vault's authority cannot be read", where=str(ca), hint="See vault.ca in irflow.yaml"
            )
        client: hvac.Client | None = getattr(self._mine, "client", None)
        if client is None:
            verify = str(ca) if ca else True
            client = hvac.Client(url=self._login.url, verify=verify, timeout=self._login.timeout_s)
            self._mine.client = client
        return client

    def _enter(self, dead: str) -> str:
        """The token that all use; a new one when it is the dead one or there is none."""
        with self._entering:
            if not self._token or self._token == dead:
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> str:
        role = self._bootstrap.resolve(self._login.role)
        secret = self._bootstrap.resolve(self._login.secret)
        client = self._client()
        client.token = ""
        with named("auth/approle/login"):
            said = client.auth.approle.login(role.reveal().decode(), secret.reveal().decode(), use_token=False)
        token = (said.get("auth") or {}).get("client_token") if isinstance(said, dict) else None
        if not isinstance(token, str):  # hvac hands on whatever answers
            raise VaultUnreachable(
                "what answers is no Vault", where="auth/approle/login", hint="See vault.url in irflow.yaml"
            )
        remember(token)
        return token

    def _alive(self, token: str) -> bool:
        client = self._client()
        client.token = token
        with named("auth/token/lookup-self"):
            return bool(client.is_authenticated())
