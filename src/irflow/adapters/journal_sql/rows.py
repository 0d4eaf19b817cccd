"""Rows to nouns and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from irflow.adapters.journal_sql.database import from_us
from irflow.core.incident import Incident
from irflow.core.journal import Event, canonical
from irflow.core.model import Json, from_text
from irflow.core.ports import Message, OutboxItem, Run


def dump(value: Json) -> str:
    """JSON for look-up rows: pure ASCII, so no database trips over odd text."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def key(text: str) -> str:
    """A text from outside as a look-up key: PostgreSQL cannot store U+0000."""
    return text.replace("\x00", "\u2400")


def event_row(event: Event) -> dict[str, Any]:
    """An event as a row of `events`; its data as canonical JSON, so that a changed byte can be seen."""
    row = {name: getattr(event, name) for name in Event.__slots__}
    row["data"] = canonical(event.data).decode()
    return row


def event_of(row: Mapping[Any, Any]) -> Event:
    """An event from a row of `events`."""
    return Event(
        row["incident"], row["seq"], row["at"], row["kind"], row["step"], row["target"], row["epoch"], row["actor"],
        json.loads(row["data"]), row["prev"], row["hash"],
    )  # fmt: skip


@lru_cache(maxsize=4096)
def incident_of(body: str) -> Incident:
    """An incident from its stored JSON. Incidents are frozen, so the same text may give the same object."""
    return Incident.model_validate_json(body)


def message_of(row: Mapping[Any, Any]) -> Message:
    """A message from a row of `messages`."""
    return Message(
        row["source"], row["message_id"], row["body_sha256"], bytes(row["body"]), from_text(row["received_at"]),
        row["outcome"], json.loads(row["response"]),
    )  # fmt: skip


def item_of(row: Mapping[Any, Any]) -> OutboxItem:
    """An item from a row of `outbox`."""
    return OutboxItem(
        row["id"], row["kind"], json.loads(row["payload"]), row["attempts"], from_us(row["created_us"])
    )  # fmt: skip


def run_of(row: Mapping[Any, Any]) -> Run:
    """A run from a row of `runs`."""
    ended = row["ended_us"]
    return Run(
        row["id"], row["incident"], row["phase"], row["executor"], row["owner"], from_us(row["started_us"]),
        from_us(row["heartbeat_us"]), None if ended is None else from_us(ended),
    )  # fmt: skip
