"""A secret-id of a role of Vault's AppRole. Both work until the old one is destroyed, with the tokens it opened."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from irflow.adapters.engines._tokens import accessors, end, mount_of, own_accessor, role_of
from irflow.adapters.engines._vault import PATH, read, vault, write
from irflow.adapters.vault.failures import VaultFailing, VaultLoginFailed, VaultPathMissing
from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.rotation import Document, TargetRefused, Writer
from irflow.core.rotation_means import Means, VaultCalls
from irflow.core.secret import SecretValue

KIND = "vault_secret_id"


class Params(Noun):
    """role: of the AppRole at `mount`."""

    role: str = Field(pattern=PATH)
    mount: str = Field(default="approle", pattern=PATH)


def open_target(params: Params, means: Means) -> SecretId:
    """The target that the parameters name. Nothing is connected yet."""
    return SecretId(params, vault(means))


@dataclass(frozen=True)
class SecretId:
    """core.rotation.Target and its Writer: nothing is held, the document's check-and-set decides."""

    params: Params
    calls: VaultCalls
    overlap: bool = True
    asks: bool = True

    def new_value(self) -> SecretValue:
        """A random UUID, as Vault's own."""
        return SecretValue(str(uuid.uuid4()).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Every call can be repeated by anybody: a secret-id is added or destroyed, never changed."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Log in with it from outside; the token that Vault gives for it is handed back at once."""
        role = read(self.calls, f"{self._path}/role-id").get("role_id")
        if role is None:
            raise ConfigurationError("Vault has no such role", where=self._path, hint="vault list auth/approle/role")

        def enter(client: Any) -> None:
            client.token = ""
            said = client.auth.approle.login(
                role, value.reveal().decode(), use_token=False, mount_point=self.params.mount
            )
            client.token = said["auth"]["client_token"]
            client.auth.token.revoke_self()

        try:
            self.calls.fresh(f"auth/{self.params.mount}/login", enter)
        except VaultLoginFailed:
            return False
        return True

    def apply(self, new: SecretValue, document: Document) -> None:
        """Have Vault take it beside the one there is."""
        try:
            write(self.calls, f"{self._path}/custom-secret-id", secret_id=new.reveal().decode())
        except VaultFailing:
            if not self.admits(new):  # it is there already
                raise TargetRefused("Vault does not take the new secret-id", where=self._path) from None

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Destroy it, and end every token that the role logged in for: Vault would leave them alive.

        If it is irflow's own role, irflow logs in anew, with what was delivered. Raises ConfigurationError while irflow
        still logs in with the one to be destroyed: it could not get in any more.
        """
        if self.calls.enters_with(value):
            raise ConfigurationError(
                "irflow itself logs in with this secret-id", where=self._path,
                hint="Name the file of vault.secret under copies of this secret, then: irflow secrets sweep",
            )  # fmt: skip
        try:
            write(self.calls, f"{self._path}/secret-id/destroy", secret_id=value.reveal().decode())
        except (VaultFailing, VaultPathMissing):
            if self.admits(value):
                raise
        self.calls.renew()
        own = own_accessor(self.calls)
        for name, about in accessors(self.calls):
            if name != own and (mount_of(about), role_of(about)) == (self.params.mount, self.params.role):
                end(self.calls, name)

    def disable(self, document: Document) -> None:
        """The secret-id that irflow knows of opens nothing any more."""
        self.revoke(document.live, document)

    def enable(self, document: Document) -> None:
        """The new one is there already."""

    @property
    def _path(self) -> str:
        return f"auth/{self.params.mount}/role/{self.params.role}"
