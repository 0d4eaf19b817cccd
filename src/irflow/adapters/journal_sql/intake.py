"""What came in: webhook requests by their id, alerts by their fingerprint."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from irflow.adapters.journal_sql.rows import dump, key, message_of
from irflow.adapters.journal_sql.tables import alerts, incidents, messages
from irflow.core.alert import Alert, AlertStatus
from irflow.core.model import to_text
from irflow.core.ports import Message


def message(connection: Connection, source: str, message_id: str) -> Message | None:
    """An earlier request with this id."""
    row = connection.execute(
        select(messages).where(messages.c.source == key(source), messages.c.message_id == key(message_id))
    )
    found = row.mappings().first()
    return None if found is None else message_of(found)


def save_message(connection: Connection, one: Message) -> None:
    """Keep a request; a second one with its id fails."""
    connection.execute(
        insert(messages),
        {
            "source": key(one.source), "message_id": key(one.message_id), "body_sha256": one.body_sha256,
            "body": one.body, "received_at": to_text(one.received_at), "outcome": one.outcome,
            "response": dump(one.response),
        },
    )  # fmt: skip


def firing(connection: Connection, source: str, fingerprint: str) -> tuple[str, str] | None:
    """(alert, incident) that a repeat of this trouble belongs to.

    The alert is the first of its row of repeats: where the latest is itself a duplicate, the one it repeats.
    """
    mine = (alerts.c.source == key(source)) & (alerts.c.fingerprint == key(fingerprint))
    latest = connection.execute(select(alerts.c.status).where(mine).order_by(alerts.c.position.desc()).limit(1))
    if latest.scalar() != AlertStatus.FIRING.value:
        return None
    row = connection.execute(
        select(func.coalesce(alerts.c.duplicate_of, alerts.c.id), alerts.c.incident)
        .join(incidents, incidents.c.id == alerts.c.incident)
        .where(mine, incidents.c.closed.is_(False), alerts.c.status == AlertStatus.FIRING.value)
        .order_by(alerts.c.position.desc())
        .limit(1)
    ).first()
    return None if row is None else (row[0], row[1])


def save_alert(connection: Connection, alert: Alert, incident: str | None, duplicate_of: str | None) -> None:
    """Keep a normalised alert."""
    connection.execute(
        insert(alerts),
        {
            "id": alert.id, "source": key(alert.source), "fingerprint": key(alert.fingerprint),
            "status": alert.status.value, "incident": incident, "duplicate_of": duplicate_of,
            "body": dump(alert.model_dump(mode="json")),
        },
    )  # fmt: skip
