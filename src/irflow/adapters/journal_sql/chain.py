"""Chains in the database: append to one, read it, find its head."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rfc8785 import CanonicalizationError
from sqlalchemy import Connection, bindparam, insert, select

from irflow.adapters.journal_sql.rows import event_of, event_row
from irflow.adapters.journal_sql.tables import events
from irflow.core.errors import JournalError
from irflow.core.incident import SYSTEM
from irflow.core.journal import GENESIS, Draft, Event, Kind, chain
from irflow.core.journal_redaction import without_secrets
from irflow.core.ports import Clock

Head = tuple[int, str]
Row = dict[str, Any]

# Built once: building a statement costs more than running it.
_HEAD = (
    select(events.c.seq, events.c.hash)
    .where(events.c.incident == bindparam("incident"))
    .order_by(events.c.seq.desc())
    .limit(1)
)
_AFTER = (
    select(*(column for column in events.c if column.name != "id"))
    .where(events.c.incident == bindparam("incident"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
)
_HALT = (
    select(events.c.kind, events.c.data)
    .where(events.c.incident == SYSTEM, events.c.kind.in_([str(Kind.HALTED), str(Kind.RESUMED)]))
    .order_by(events.c.seq.desc())
    .limit(1)
)
_POSITION = select(events.c.id).order_by(events.c.id.desc()).limit(1)
_INSERT = insert(events)


def head(connection: Connection, incident: str) -> Head:
    """(sequence, hash) of the last event; (0, GENESIS) for a new chain."""
    row = connection.execute(_HEAD, {"incident": incident}).first()
    return (0, GENESIS) if row is None else (row[0], row[1])


def extend(incident: str, after: Head, clock: Clock, drafts: Sequence[Draft]) -> tuple[tuple[Event, ...], list[Row]]:
    """Drafts behind a head as events and as rows to insert. Raises JournalError for what cannot be stored."""
    try:
        made = chain(incident, after, clock.now(), map(without_secrets, drafts))
        rows = [event_row(event) for event in made]
    except (CanonicalizationError, UnicodeEncodeError) as error:
        kinds = ", ".join(str(draft.kind) for draft in drafts)
        raise JournalError(f"{kinds} cannot be written as JSON: {error}", where=incident) from error
    for event in made:
        if "\0" in event.step + event.target + event.actor + event.incident:
            raise JournalError(f"{event.kind} has a zero character in its step, target or actor", where=incident)
    return made, rows


def save(connection: Connection, rows: list[Row]) -> None:
    """Insert rows, in their order."""
    connection.execute(_INSERT, rows)


def events_after(connection: Connection, incident: str, after: int) -> list[Event]:
    """The chain after a sequence number, in order."""
    rows = connection.execute(_AFTER, {"incident": incident, "after": after})
    return [event_of(row) for row in rows.mappings()]


def position(connection: Connection) -> int:
    """Number of the row that was written last, of any chain; 0 before the first."""
    return int(connection.execute(_POSITION).scalar() or 0)


def halted(connection: Connection) -> str | None:
    """The reason of the last halt that nobody lifted."""
    row = connection.execute(_HALT).first()
    if row is None or row[0] != Kind.HALTED:
        return None
    return str(json.loads(row[1]).get("reason") or "no reason was given")
