"""A private SSH key that opens an account of a host. Both keys work until the old one is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from pydantic import Field

from irflow.adapters.targets._ssh import Account
from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.rotation import Document, Writer
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue

KIND = "authorized_key"
_SCRIPT = "authorized_keys.sh"


class Params(Noun):
    """host: inventory name. account: whom the key opens. file: where root keeps its keys, else the account does."""

    host: str
    account: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,31}$")
    file: str = Field(default="", pattern=r"^(/[A-Za-z0-9_@%+=:,./\[\]-]+)?$")


def open_target(params: Params, means: Means) -> AuthorizedKey:
    """The target that the parameters name. Nothing is connected yet."""
    return AuthorizedKey(Account.find(params.host, params.account, means), params.file)


@dataclass(frozen=True)
class AuthorizedKey:
    """core.rotation.Target and its Writer: the lock is the script's own, and the document's version the fence."""

    account: Account
    file: str = ""
    overlap: bool = True
    asks: bool = True

    def new_value(self) -> SecretValue:
        """An ed25519 private key in OpenSSH's form, without a passphrase."""
        key = Ed25519PrivateKey.generate()
        return SecretValue(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held: each call locks the host for itself, and refuses a version smaller than one it has seen."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Log in with it from outside."""
        return self.account.admits(value, "key")

    def apply(self, new: SecretValue, document: Document) -> None:
        """Put its public half beside the live one, with the same options."""
        kind, body = self._public(new)
        like = self._public(document.live)[1]
        self._change("add", document, ["--type", kind, "--key", body, "--like", like])

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Take its line away, and end the SSH sessions of the account: nobody can tell which key opened them."""
        self._change("remove", document, ["--key", self._public(value)[1]])
        self.account.change(_SCRIPT, "end", document)

    def disable(self, document: Document) -> None:
        """The key that irflow knows of opens it no more."""
        self.revoke(document.live, document)

    def enable(self, document: Document) -> None:
        """The new key is there already."""

    def _change(self, verb: str, document: Document, args: Sequence[str]) -> None:
        self.account.change(_SCRIPT, verb, document, [*args, *(["--file", self.file] if self.file else [])])

    def _public(self, value: SecretValue) -> tuple[str, str]:
        """Type and body of the public half. Raises ConfigurationError; the value is not repeated."""
        try:
            key = load_ssh_private_key(value.reveal(), None)
            text = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        except (ValueError, TypeError):
            raise ConfigurationError(
                "the secret is no private key in OpenSSH's form without a passphrase", where=self.account.host.name
            ) from None
        kind, _, body = text.partition(" ")
        return kind, body
