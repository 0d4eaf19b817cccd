"""Leases that Vault has given out below a prefix: all of them end, and what was made for them is taken away."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import Field

from irflow.adapters.engines._vault import PATH, names, vault
from irflow.core.model import Noun
from irflow.core.rotation import Document
from irflow.core.rotation_means import Means, VaultCalls
from irflow.core.secret import SecretValue

KIND = "vault_leases"
_LOOKUP, _DEEPEST = "sys/leases/lookup", 12


class Params(Noun):
    """prefix: as in `database/creds/shop` for roles that Vault made, `auth/approle/login` for tokens."""

    prefix: str = Field(pattern=PATH)


def open_engine(params: Params, means: Means) -> Leases:
    """The engine that the parameters name. Nothing is connected yet."""
    return Leases(params.prefix.strip("/"), vault(means))


@dataclass(frozen=True)
class Leases:
    """core.engine_rotation.Engine. Whoever held one asks for another."""

    prefix: str
    calls: VaultCalls
    overlap: bool = True
    meanwhile: str = "cut off, until they ask Vault anew"

    def before(self) -> SecretValue:
        """The leases there are."""
        return SecretValue(json.dumps(self._there()).encode())

    def replace(self, before: SecretValue, document: Document) -> None:
        """End all; Vault answers when what they stood for is gone."""
        self.calls.call(self.prefix, lambda client: client.sys.revoke_prefix(self.prefix))

    def works(self) -> bool:
        """There is nothing to try: the next lease is made for whoever asks."""
        return True

    def alive(self, before: SecretValue) -> str:
        """Those from before that Vault still knows."""
        left = set(json.loads(before.reveal())) & set(self._there())
        return f"{len(left)} leases below {self.prefix}" if left else ""

    def _there(self) -> list[str]:
        return sorted(self._below(f"{self.prefix}/", 0))

    def _below(self, folder: str, depth: int) -> list[str]:
        found = []
        for name in names(self.calls, f"{_LOOKUP}/{folder}"):
            if not name.endswith("/"):
                found.append(folder + name)
            elif depth < _DEEPEST:
                found += self._below(folder + name, depth + 1)
        return found
