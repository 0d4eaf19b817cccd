"""Tokens that Vault has issued, by policy or by the role that logged in: all of them end but the one that asks."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import Field, model_validator

from irflow.adapters.engines._tokens import accessors, end, own_accessor, role_of
from irflow.adapters.engines._vault import vault
from irflow.core.model import Noun
from irflow.core.rotation import Document
from irflow.core.rotation_means import Means, VaultCalls
from irflow.core.secret import SecretValue

KIND = "vault_tokens"


class Params(Noun):
    """policies: tokens with any of these. roles: tokens that a role of AppRole logged in for."""

    policies: tuple[str, ...] = Field(default=())
    roles: tuple[str, ...] = Field(default=())

    @model_validator(mode="after")
    def _some(self) -> Params:
        if not self.policies and not self.roles:
            raise ValueError("name policies or roles: which tokens?")
        return self


def open_engine(params: Params, means: Means) -> Tokens:
    """The engine that the parameters name. Nothing is connected yet."""
    return Tokens(params, vault(means))


@dataclass(frozen=True)
class Tokens:
    """core.engine_rotation.Engine. Whoever held one logs in anew. Destroying a secret-id would leave them alive."""

    params: Params
    calls: VaultCalls
    overlap: bool = True
    meanwhile: str = "cut off, until they log in anew"

    def before(self) -> SecretValue:
        """The accessors of those there are: what names a token without opening anything."""
        return SecretValue(json.dumps(self._there()).encode())

    def replace(self, before: SecretValue, document: Document) -> None:
        """End each, with the tokens made from it."""
        for accessor in json.loads(before.reveal()):
            end(self.calls, accessor)

    def works(self) -> bool:
        """There is nothing to try: the next token is made for whoever logs in."""
        return True

    def alive(self, before: SecretValue) -> str:
        """Those from before that Vault still knows."""
        left = set(json.loads(before.reveal())) & set(self._there())
        return f"{len(left)} tokens" if left else ""

    def _there(self) -> list[str]:
        policies, roles = set(self.params.policies), set(self.params.roles)
        own = own_accessor(self.calls)
        return [
            name
            for name, about in accessors(self.calls)
            if name != own and (policies & set(about["policies"]) or role_of(about) in roles)
        ]
