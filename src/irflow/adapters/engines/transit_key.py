"""A key of Vault's transit engine: a new version, ciphertexts brought to it, and the old versions open nothing."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator

from irflow.adapters.engines._vault import PATH, read, vault, write
from irflow.adapters.vault.failures import VaultTooOld
from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.rotation import Document
from irflow.core.rotation_means import Means, VaultCalls
from irflow.core.secret import SecretRef, SecretValue

KIND = "transit_key"


class Params(Noun):
    """key: of the engine at `mount`. rewrap: `vault:MOUNT/path#field` of ciphertexts that must stay readable."""

    key: str = Field(pattern=PATH)
    mount: str = Field(default="transit", pattern=PATH)
    rewrap: tuple[str, ...] = ()

    @field_validator("rewrap")
    @classmethod
    def _references(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            if any(SecretRef.parse(one).scheme != "vault" for one in value):
                raise ValueError("ciphertexts are named as vault:MOUNT/path#field")
        except ConfigurationError as error:  # as a ValueError it keeps its place in the file
            raise ValueError(str(error)) from None
        return value


def open_engine(params: Params, means: Means) -> TransitKey:
    """The engine that the parameters name. Nothing is connected yet."""
    return TransitKey(params, vault(means))


@dataclass(frozen=True)
class TransitKey:
    """core.engine_rotation.Engine. irflow never decrypts: rewrapping is done inside Vault."""

    params: Params
    calls: VaultCalls
    overlap: bool = True
    meanwhile: str = "served; ciphertexts not named under rewrap cannot be opened any more"

    def before(self) -> SecretValue:
        """The newest version, and something encrypted with it."""
        probe = write(self.calls, self._path("encrypt"), plaintext=base64.b64encode(b"irflow").decode())
        return SecretValue(json.dumps({"version": self._about()["latest_version"], **probe}).encode())

    def replace(self, before: SecretValue, document: Document) -> None:
        """A new version, then the ciphertexts, then the end of all older versions."""
        last = json.loads(before.reveal())["version"]
        if self._about()["latest_version"] <= last:
            write(self.calls, f"{self._path('keys')}/rotate")
        for one in self.params.rewrap:
            self._rewrap(SecretRef.parse(one))
        newest = self._about()["latest_version"]
        write(
            self.calls, f"{self._path('keys')}/config", min_decryption_version=newest, min_encryption_version=newest
        )  # fmt: skip

    def works(self) -> bool:
        """Whether something new can be encrypted."""
        return "ciphertext" in write(self.calls, self._path("encrypt"), plaintext="")

    def alive(self, before: SecretValue) -> str:
        """Whether Vault still opens what was encrypted before: rewrapping decrypts it first."""
        try:
            write(self.calls, self._path("rewrap"), ciphertext=json.loads(before.reveal())["ciphertext"])
        except VaultTooOld:
            return ""
        return "what was encrypted before"

    def _rewrap(self, ref: SecretRef) -> None:
        """One ciphertext, unless somebody changed it meanwhile: then the sweep does it."""
        mount, _, path = ref.path.partition("/")
        field = ref.field or ""

        def kv(client: Any) -> Any:
            found = client.secrets.kv.v2.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
            return found["data"]

        found = self.calls.call(str(ref), kv)
        data = found["data"]
        if field not in data:
            raise ConfigurationError("there is no such ciphertext", where=str(ref), hint="See rewrap in secrets.yaml")
        data[field] = write(self.calls, self._path("rewrap"), ciphertext=data[field])["ciphertext"]
        self.calls.call(
            str(ref),
            lambda client: client.secrets.kv.v2.create_or_update_secret(
                path, data, cas=found["metadata"]["version"], mount_point=mount
            ),
        )

    def _about(self) -> dict[str, Any]:
        return read(self.calls, self._path("keys"))

    def _path(self, what: str) -> str:
        return f"{self.params.mount}/{what}/{self.params.key}"
