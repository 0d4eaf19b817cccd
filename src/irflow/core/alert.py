"""An alert: what a source sent, normalised. The raw bytes and their SHA-256 are kept beside it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from irflow.core.model import Noun
from irflow.core.severity import Severity


class Trust(StrEnum):
    """Whether the sender proved who it is. Unverified never acts unattended (DESIGN rule 9)."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"


class AlertStatus(StrEnum):
    """Whether the source says the trouble is there or gone."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Alert(Noun):
    """One normalised alert. Every text in it is hostile: data, never a template, shell text, path or expression.

    id: ULID. source: the configured source's name. message_id: the sender's idempotency key.
    fingerprint: equal for repeats of the same trouble from the same source.
    hosts, addresses, accounts, hashes, secrets: as sent; hosts are looked up in the inventory before anything is done.
    occurred_at: when the source says it began. raw_sha256: hash of the raw request body.
    """

    id: str
    source: str
    message_id: str
    fingerprint: str
    status: AlertStatus = AlertStatus.FIRING
    type: str
    severity: Severity
    title: str = Field(max_length=500)
    summary: str = Field(default="", max_length=10_000)
    hosts: tuple[str, ...] = Field(default=(), max_length=1000)
    addresses: tuple[str, ...] = Field(default=(), max_length=1000)
    accounts: tuple[str, ...] = Field(default=(), max_length=1000)
    hashes: tuple[str, ...] = Field(default=(), max_length=1000)
    secrets: tuple[str, ...] = Field(default=(), max_length=1000)
    labels: dict[str, str] = {}
    occurred_at: datetime | None = None
    received_at: datetime
    raw_sha256: str
    trust: Trust
