"""An alert source as configured: who may send, how it proves itself, and how its words map to irflow's."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.secret import SecretRef
from irflow.core.severity import Severity

MIB = 1 << 20

SEVERITIES: dict[str, Severity] = {
    **{one.value: one for one in Severity},
    "emergency": Severity.CRITICAL, "alert": Severity.CRITICAL, "page": Severity.CRITICAL, "p1": Severity.CRITICAL,
    "error": Severity.HIGH, "major": Severity.HIGH, "p2": Severity.HIGH,
    "warning": Severity.MEDIUM, "minor": Severity.MEDIUM, "p3": Severity.MEDIUM,
    "notice": Severity.LOW, "info": Severity.LOW, "informational": Severity.LOW, "none": Severity.LOW,
    "p4": Severity.LOW,
}  # fmt: skip
"""What monitoring systems commonly write in a severity label; `severity_map` of a source comes first."""


class Auth(StrEnum):
    """How a sender proves who it is (DESIGN rule 9)."""

    HMAC = "hmac"
    BEARER = "bearer"
    NONE = "none"


# Requests per minute where the source sets none. A source that proves nothing must not fill the disk.
PER_MINUTE = {Auth.HMAC: 60_000, Auth.BEARER: 60_000, Auth.NONE: 120}


class Source(Noun):
    """One source; alerts come in at `POST /webhooks/NAME`.

    kind: how its requests are read; `alertmanager`, `standard`, or one that another package adds.
    keys: in YAML `key`, a secret reference (`file:PATH`) or two of them while a key is changed.
    type_labels, severity_label, host_labels, address_labels, account_labels, hash_labels, secret_labels: for kinds with
    free labels, which label says what; of type_labels and host_labels the first one that an alert carries counts.
    type_map, severity_map: the source's words for types and severities, in any case. default_type: when nothing says
    it; empty uses the alert's own name. per_minute: most requests; 0 gives 60000, or 120 without auth.
    max_body: bytes. drill: incidents are kept out of metrics.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    kind: str = "standard"
    auth: Auth
    keys: tuple[str, ...] = Field(default=(), alias="key", max_length=4)
    type_map: dict[str, str] = {}
    type_labels: tuple[str, ...] = ("incident_type", "type")
    default_type: str = ""
    severity_label: str = "severity"
    severity_map: dict[str, Severity] = {}
    default_severity: Severity = Severity.MEDIUM
    host_labels: tuple[str, ...] = ("host", "hostname", "node", "instance")
    address_labels: tuple[str, ...] = ("source_ip", "src_ip", "attacker_ip", "remote_ip")
    account_labels: tuple[str, ...] = ("account", "user", "username")
    hash_labels: tuple[str, ...] = ("sha256", "file_sha256", "file_hash")
    secret_labels: tuple[str, ...] = ("secret", "secret_name")
    per_minute: int = Field(default=0, ge=0)
    max_body: int = Field(default=MIB, ge=1, le=16 * MIB)
    drill: bool = False

    @field_validator("keys", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("keys")
    @classmethod
    def _references(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                SecretRef.parse(one)
            except ConfigurationError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("type_map", "severity_map")
    @classmethod
    def _any_case(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {key.lower(): one for key, one in value.items()}

    @model_validator(mode="after")
    def _keys_fit_auth(self) -> Self:
        if self.auth is Auth.NONE and self.keys:
            raise ValueError("auth: none has no key; write auth: hmac or auth: bearer, or remove the key")
        if self.auth is not Auth.NONE and not self.keys:
            raise ValueError(f"auth: {self.auth.value} needs a key, as in key: file:keys/{self.name}.key")
        return self

    @property
    def requests_per_minute(self) -> int:
        """The limit in force."""
        return self.per_minute or PER_MINUTE[self.auth]

    def severity_of(self, text: str) -> Severity | None:
        """The severity that a word of this source means, None when it means none."""
        word = text.strip().lower()
        return self.severity_map.get(word) or SEVERITIES.get(word)

    def type_of(self, text: str) -> str:
        """The incident type that a word of this source means: as mapped, else the word itself in `snake_case`.

        Always `[a-z0-9_.-]{1,64}`; empty when nothing is left of the word.
        """
        mapped = self.type_map.get(text.strip().lower())
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", (mapped or text).strip()[:200])
        return re.sub(r"[^a-z0-9.-]+", "_", words.lower()).strip("_.-")[:64]
