"""What one request says, read but not yet judged: the common form that every kind of source is turned into."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

from pydantic import ValidationError

from irflow.core.alert import AlertStatus
from irflow.core.journal import canonical
from irflow.core.model import Noun
from irflow.core.severity import Severity
from irflow.intake.refusal import NotUnderstood
from irflow.intake.text import clean

MOST_ALERTS = 1000
"""Most alerts of one request: they share one transaction, for which others wait."""
MOST_TARGETS = 1000
"""Most hosts, addresses, accounts, hashes or secrets of one alert (core.alert)."""
_MOST_LABELS = 100


class Reading(Noun):
    """One alert as the source tells it; texts are cleaned, nothing is looked up yet."""

    fingerprint: str
    status: AlertStatus
    type: str
    severity: Severity
    title: str
    summary: str = ""
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    occurred_at: datetime | None = None


class Parcel(Noun):
    """The alerts of one request. left_out: how many more the source says it did not send."""

    readings: tuple[Reading, ...]
    left_out: int = 0


def fingerprint(text: str, *parts: object) -> str:
    """The source's own fingerprint, or one of `parts` when it gives none; at most 128 characters, safe to store."""
    own = clean(text, 128)
    if own and own == text:
        return own
    given = text.encode("utf-8", "surrogatepass") if text else canonical([*parts])
    return hashlib.sha256(given).hexdigest()


def labels(given: dict[str, str]) -> dict[str, str]:
    """Labels within bounds: the first 100, names of 100 characters, values of 2000."""
    return {clean(key, 100): clean(value, 2000, lines=True) for key, value in list(given.items())[:_MOST_LABELS]}


def moment(text: str) -> datetime:
    """An RFC 3339 time in UTC. Raises ValueError for other forms, and for a time without a zone.

    Go writes nanoseconds, of which microseconds are kept.
    """
    found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    if found.tzinfo is None:
        raise ValueError("a time needs a zone, as in 2026-01-31T12:00:00Z")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time outside the calendar") from None


def not_understood(error: ValidationError) -> NotUnderstood:
    """The first mistakes of a body, by field; values are not repeated."""
    mistakes = [
        clean(".".join(str(part) for part in one["loc"]) or "body", 100) + ": " + clean(one["msg"], 200)
        for one in error.errors(include_input=False, include_url=False, include_context=False)[:5]
    ]
    return NotUnderstood("; ".join(mistakes))
