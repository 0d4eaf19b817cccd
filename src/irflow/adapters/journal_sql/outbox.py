"""The outbox: work that must happen at least once, leased to one taker at a time."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update
from ulid import ULID

from irflow.adapters.journal_sql.rows import dump, item_of
from irflow.adapters.journal_sql.tables import outbox
from irflow.core.model import Json
from irflow.core.ports import OutboxItem


def add(connection: Connection, kind: str, payload: dict[str, Json], now_us: int, due_us: int) -> str:
    """Add an item; returns its id."""
    item = str(ULID())
    connection.execute(
        insert(outbox),
        {
            "id": item, "kind": kind, "payload": dump(payload), "attempts": 0, "created_us": now_us, "due_us": due_us,
            "leased_until_us": 0, "owner": "", "error": "",
        },
    )  # fmt: skip
    return item


def _due(kinds: Sequence[str], now_us: int) -> ColumnElement[bool]:
    return and_(outbox.c.kind.in_(kinds), outbox.c.due_us <= now_us, outbox.c.leased_until_us <= now_us)


def any_due(connection: Connection, kinds: Sequence[str], now_us: int) -> bool:
    """Whether take would find something."""
    return connection.execute(select(outbox.c.id).where(_due(kinds, now_us)).limit(1)).first() is not None


def take(
    connection: Connection, kinds: Sequence[str], owner: str, now_us: int, lease_s: float, limit: int
) -> list[OutboxItem]:
    """Due items, oldest first, leased to owner; counts an attempt. Needs the write lock."""
    chosen = select(outbox.c.id).where(_due(kinds, now_us)).order_by(outbox.c.position).limit(limit)
    ids = list(connection.execute(chosen).scalars())
    if not ids:
        return []
    connection.execute(
        update(outbox)
        .where(outbox.c.id.in_(ids))
        .values(owner=owner, leased_until_us=now_us + round(lease_s * 1e6), attempts=outbox.c.attempts + 1)
    )
    rows = connection.execute(select(outbox).where(outbox.c.id.in_(ids)).order_by(outbox.c.position))
    return [item_of(row) for row in rows.mappings()]


def done(connection: Connection, item_id: str) -> bool:
    """Remove an item whose work has happened; the journal is its record. Whether it was there."""
    return connection.execute(delete(outbox).where(outbox.c.id == item_id)).rowcount > 0


def again(connection: Connection, item_id: str, due_us: int, error: str) -> bool:
    """End the lease and try later. Whether the item was there."""
    changed = connection.execute(
        update(outbox)
        .where(outbox.c.id == item_id)
        .values(due_us=due_us, leased_until_us=0, owner="", error=error.replace("\x00", "?")[:1000])
    )
    return changed.rowcount > 0


def pending(connection: Connection) -> list[OutboxItem]:
    """All items not done, oldest first."""
    rows = connection.execute(select(outbox).order_by(outbox.c.position))
    return [item_of(row) for row in rows.mappings()]
