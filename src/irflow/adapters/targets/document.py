"""A secret that nobody checks but whoever reads it in Vault: a signing key, a seed, a password between two services."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import Field

from irflow.core.model import Noun
from irflow.core.rotation import Document, Writer
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue

KIND = "document"
_ALPHABET = string.ascii_letters + string.digits


class Params(Noun):
    """length: letters and digits of a new value."""

    length: int = Field(default=40, ge=20, le=4096)


def open_target(params: Params, means: Means) -> OnlyDocument:
    """The target that the parameters name."""
    return OnlyDocument(params.length)


@dataclass(frozen=True)
class OnlyDocument:
    """core.rotation.Target and its Writer: there is nothing to change but the document, and nobody to try it on."""

    length: int = 40
    overlap: bool = True
    asks: bool = False

    def new_value(self) -> SecretValue:
        """Letters and digits."""
        return SecretValue("".join(secrets.choice(_ALPHABET) for _ in range(self.length)).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held: the document's check-and-set is all that decides."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Never asked."""
        raise AssertionError("nobody can be asked whether the value of a document is accepted")

    def apply(self, new: SecretValue, document: Document) -> None:
        """Whoever reads the document has it."""

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Whoever reads the document has it no more."""

    def disable(self, document: Document) -> None:
        """Never asked: a new value cannot turn out not to work."""

    def enable(self, document: Document) -> None:
        """Never asked."""
