"""A static role of Vault's database engine: Vault sets its password, keeps it, and finishes by itself after a crash."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from irflow.adapters.engines._vault import PATH, read, vault, write
from irflow.adapters.postgresql_login import Server, admits
from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.rotation import Document
from irflow.core.rotation_means import Means, VaultCalls
from irflow.core.secret import SecretValue

KIND = "database_role"


class Params(Noun):
    """role: of the engine at `mount`. login: the PostgreSQL server, to try both passwords as an attacker would."""

    role: str = Field(pattern=PATH)
    mount: str = Field(default="database", pattern=PATH)
    login: Server


def open_engine(params: Params, means: Means) -> StaticRole:
    """The engine that the parameters name. Nothing is connected yet."""
    return StaticRole(params, vault(means))


@dataclass(frozen=True)
class StaticRole:
    """core.engine_rotation.Engine. A role has one password: between setting and keeping it, readers are refused."""

    params: Params
    calls: VaultCalls
    overlap: bool = False
    meanwhile: str = "refused for a moment"

    def before(self) -> SecretValue:
        """The password that works now."""
        return self._live()[1]

    def replace(self, before: SecretValue, document: Document) -> None:
        """Have Vault set another one, unless it has done so already."""
        if self._live()[1].reveal() == before.reveal():
            write(self.calls, f"{self.params.mount}/rotate-role/{self.params.role}")

    def works(self) -> bool:
        """Log in with what Vault says."""
        return admits(self.params.login, *self._live())

    def alive(self, before: SecretValue) -> str:
        """Log in with what Vault said before."""
        user = self._live()[0]
        return f"the password from before, for {user}" if admits(self.params.login, user, before) else ""

    def _live(self) -> tuple[str, SecretValue]:
        path = f"{self.params.mount}/static-creds/{self.params.role}"
        found = read(self.calls, path)
        if "password" not in found:
            raise ConfigurationError("Vault has no password there", where=path, hint="Is it a static role?")
        return found["username"], SecretValue(found["password"].encode())
