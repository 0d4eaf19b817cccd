"""The gate of one source: who may come in, under which message id, and how far they are trusted."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from irflow.core.alert import Trust
from irflow.core.errors import ConfigurationError
from irflow.core.secret import SecretRef, SecretStore, SecretValue
from irflow.intake.kind import Kind
from irflow.intake.refusal import NotAuthentic
from irflow.intake.signature import is_message_id
from irflow.intake.source import Auth, Source


@dataclass(frozen=True)
class Gate:
    """A source with its keys and its kind."""

    source: Source
    kind: Kind
    keys: tuple[SecretValue, ...]

    def knock(self, headers: Mapping[str, str]) -> None:
        """What can be checked before the body is read. headers: by lower-case name. Raises NotAuthentic."""
        if self.source.auth is not Auth.BEARER:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        good = False
        for key in self.keys:  # all of them, so that the time taken says nothing
            good |= hmac.compare_digest(given, hashlib.sha256(key.reveal()).digest())
        if scheme.lower() != "bearer" or not good:
            raise NotAuthentic("no bearer token, or a wrong one")

    def enter(self, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
        """Check the raw body. Returns the message id: the sender's, else the SHA-256 of the body, so that a sender
        without ids may repeat itself safely. Raises NotAuthentic."""
        if self.source.auth is Auth.HMAC:
            return self.kind.verify(self.keys, headers, body, now)
        given = headers.get("webhook-id", "")
        return given if is_message_id(given) else hashlib.sha256(body).hexdigest()

    def trust(self, *, private: bool) -> Trust:
        """How far the sender is trusted (DESIGN rule 9). private: over TLS, or from this machine; over anything else
        a bearer token can be read on the way."""
        if self.source.auth is Auth.HMAC or (self.source.auth is Auth.BEARER and private):
            return Trust.VERIFIED
        return Trust.UNVERIFIED


def open_gate(source: Source, kinds: Mapping[str, Kind], secrets: SecretStore) -> Gate:
    """Resolve a source's kind and keys. Raises ConfigurationError naming the source, ServiceMissing from the store."""
    where = f"source {source.name}"
    kind = kinds.get(source.kind)
    if kind is None:
        raise ConfigurationError(
            f"no kind {source.kind!r} of source", where=where, hint=f"There are {', '.join(sorted(kinds))}"
        )
    return Gate(source, kind, tuple(_key(source, kind, text, secrets, where) for text in source.keys))


def _key(source: Source, kind: Kind, text: str, secrets: SecretStore, where: str) -> SecretValue:
    value = secrets.resolve(SecretRef.parse(text))
    if source.auth is Auth.HMAC:
        return kind.key(value.reveal(), where)
    token = value.reveal().strip()
    if not token:
        raise ConfigurationError(f"the token in {text} is empty", where=where, hint="Write a random one into it")
    return SecretValue(token)
