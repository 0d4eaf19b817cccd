"""Nouns for tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ulid import ULID

from irflow.core.alert import Alert, Trust
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.ports import Message, Run
from irflow.core.severity import Severity


class FrozenClock:
    """A clock that moves only when told to."""

    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> None:
        self.at = now

    def now(self) -> datetime:
        """The moment it was set to."""
        return self.at

    def monotonic(self) -> float:
        """The same moment in seconds."""
        return self.at.timestamp()

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


def note(text: str = "seen", **data: Any) -> Draft:
    """An event that changes nothing."""
    return Draft(Kind.NOTE, "irflow:test", {"text": text, **data})


def an_incident(**changes: Any) -> Incident:
    """An incident about to be opened."""
    fields: dict[str, Any] = {
        "id": str(ULID()), "type": "system_compromise", "severity": Severity.CRITICAL, "trust": Trust.VERIFIED,
        "title": "beacon on web-1", "hosts": ("web-1",), "detected_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
    }  # fmt: skip
    return Incident(**{**fields, **changes})


def an_alert(**changes: Any) -> Alert:
    """An alert as an intake would give it."""
    fields: dict[str, Any] = {
        "id": str(ULID()), "source": "edr", "message_id": str(ULID()), "fingerprint": "beacon@web-1",
        "type": "system_compromise", "severity": Severity.CRITICAL, "title": "beacon", "hosts": ("web-1",),
        "received_at": datetime(2026, 3, 1, 12, tzinfo=UTC), "raw_sha256": "0" * 64, "trust": Trust.VERIFIED,
    }  # fmt: skip
    return Alert(**{**fields, **changes})


def a_message(message_id: str = "m-1", **changes: Any) -> Message:
    """A webhook request."""
    fields: dict[str, Any] = {
        "source": "edr", "message_id": message_id, "body_sha256": "1" * 64, "body": b'{"a": 1}\x00\xff',
        "received_at": datetime(2026, 3, 1, 12, tzinfo=UTC), "outcome": "accepted", "response": {"alerts": []},
    }  # fmt: skip
    return Message(**{**fields, **changes})


def a_run(run_id: str = "run-1", owner: str = "worker-1", **changes: Any) -> Run:
    """A phase being executed."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "id": run_id, "incident": "I", "phase": "containment", "executor": "threads", "owner": owner,
        "started_at": now, "heartbeat_at": now, "ended_at": None,
    }  # fmt: skip
    return Run(**{**fields, **changes})
