"""Secrets as references; a value exists only inside the adapter call that needs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn, Protocol

from irflow.core.errors import ConfigurationError
from irflow.core.revealed import remember

_FORM = re.compile(r"(?P<scheme>vault|keyring|file):(?P<path>[^#\s]+)(?:#(?P<field>[^\s#]+))?")
ENVIRONMENT = "IRFLOW_SECRET_"
"""What variables begin with that `env:` references may name: no program but irflow is started with them."""
_VARIABLE = re.compile(rf"env:({ENVIRONMENT}[A-Z0-9_]+)")


@dataclass(frozen=True)
class SecretRef:
    """Where a secret lives, never what it is.

    scheme: `vault`, `keyring`, `file` (mode 0600 or a systemd credential), or `env` for what opens Vault and keyring.
    path: `MOUNT/path`, `service/user`, a file path or a variable's name. field: the key inside a Vault document.
    """

    scheme: str
    path: str
    field: str | None = None

    @classmethod
    def parse(cls, text: str, *, bootstrap: bool = False) -> SecretRef:
        """Read `vault:kv/app/db#password`, `keyring:irflow/db` or `file:PATH`.

        bootstrap: also `env:IRFLOW_SECRET_NAME`, which is for nothing else: the account's other processes can read it.
        Raises ConfigurationError on any other form; the text itself is not repeated, it may be a secret.
        """
        variable = _VARIABLE.fullmatch(text)
        if variable and bootstrap:
            return cls("env", variable[1])
        if text.startswith("env:"):
            raise ConfigurationError(
                f"env: names a variable {ENVIRONMENT}..., and only what opens Vault or the keyring may be in one",
                hint="Write vault:MOUNT/path#field, keyring:service/user or file:PATH",
            )
        found = _FORM.fullmatch(text)
        if not found or (found["scheme"] == "vault") != (found["field"] is not None):
            raise ConfigurationError(
                "not a secret reference", hint="Write vault:MOUNT/path#field, keyring:service/user or file:PATH"
            )
        return cls(found["scheme"], found["path"], found["field"])

    def __str__(self) -> str:
        return f"{self.scheme}:{self.path}" + (f"#{self.field}" if self.field else "")


class SecretValue:
    """A secret in memory that does not print, format, compare by accident, pickle or serialise.

    From the moment it exists, core.revealed takes its value out of all that this process says.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> bytes:
        """The bytes; call it only in the argument list of the call that needs them."""
        remember(self._value)  # many others may have come since it was made
        return self._value

    def __repr__(self) -> str:
        return "SecretValue(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretValue does not pickle")


class Certifier(Protocol):
    """Signs the responder's public SSH keys, each time it logs in."""

    def certify(self, place: str, public: str, user: str) -> str:
        """An OpenSSH certificate that lets `user` in for some minutes.

        place: the signing role, `vault:MOUNT/sign/ROLE`. public: the key, `TYPE BASE64`. Raises as SecretStore.
        """
        ...


class SecretStore(Protocol):
    """Turns references into values."""

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The value behind a reference. Raises ServiceMissing or ConfigurationError naming the reference only."""
        ...
