"""Signatures of Standard Webhooks 1.0: HMAC-SHA256 over id, time and raw body, checked before anything is parsed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from irflow.core.errors import ConfigurationError
from irflow.core.secret import SecretValue
from irflow.intake.refusal import NotAuthentic

TOLERANCE_S = 300
"""How far a sender's clock may be off, either way, and so how long a message can be replayed (Standard Webhooks 1.0,
its reference libraries). Within it the message id makes a replay harmless."""
_MOST_SIGNATURES = 16

Verify: TypeAlias = Callable[[Sequence[SecretValue], Mapping[str, str], bytes, datetime], str]
"""(keys, headers by lower-case name, raw body, now) to the message id; raises NotAuthentic."""
ReadKey: TypeAlias = Callable[[bytes, str], SecretValue]
"""(what the key file holds, where it is configured) to the key; raises ConfigurationError."""


def signing_key(text: bytes, where: str) -> SecretValue:
    """The key behind `whsec_...` or its bare base64. Raises ConfigurationError unless it has 24 to 64 bytes."""
    try:
        key = base64.b64decode(text.strip().removeprefix(b"whsec_") + b"==", validate=False)
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ConfigurationError(
            "not a signing key of 24 to 64 bytes in base64", where=where,
            hint='Make one: echo "whsec_$(head -c 32 /dev/urandom | base64)"',
        )  # fmt: skip
    return SecretValue(key)


def verify_standard(keys: Sequence[SecretValue], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Check `webhook-signature` against every key. Returns `webhook-id`; raises NotAuthentic.

    The reference library is not used: it reads the machine's clock, wants text, and fails on odd headers in ways of
    its own. Both agree on the standard's test vector, and a test signs with the one and verifies with the other.
    """
    message_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    given = _signatures(headers.get("webhook-signature", ""))
    if not is_message_id(message_id) or not given:
        raise NotAuthentic("no webhook-id or no v1 signature")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise NotAuthentic("webhook-timestamp is not in seconds")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE_S:
        raise NotAuthentic(f"signed at {timestamp}, more than {TOLERANCE_S} s from now")
    signed = f"{message_id}.{timestamp}.".encode() + body
    good = False
    for key in keys:
        expected = hmac.new(key.reveal(), signed, hashlib.sha256).digest()
        for one in given:
            good |= hmac.compare_digest(expected, one)
    if not good:
        raise NotAuthentic("no signature fits a key")
    return message_id


def is_message_id(text: str) -> bool:
    """Whether a text can serve as an idempotency key: 1 to 256 printable ASCII characters without spaces."""
    return 0 < len(text) <= 256 and text.isascii() and text.isprintable() and " " not in text


def _signatures(header: str) -> list[bytes]:
    """The decoded `v1` entries; other versions and broken entries are passed over, as the standard asks."""
    found = []
    for entry in header.split(" ")[:_MOST_SIGNATURES]:
        version, _, text = entry.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except ValueError:
                continue
    return found
