"""Look-up rows of incidents: numbers, what is open, who is who. The facts themselves are in the journal."""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, or_, select, update

from irflow.adapters.journal_sql.rows import incident_of, key
from irflow.adapters.journal_sql.tables import incidents
from irflow.core.errors import JournalError
from irflow.core.incident import Incident

_OLDEST_FIRST = (incidents.c.year, incidents.c.serial)


def give_number(connection: Connection, incident: Incident, year: int) -> Incident:
    """The incident with the year's next number, indexed. Needs the write lock: that is why no number is missing.

    A number that it has already is kept: a local run's journal cannot know the next one.
    """
    last = connection.execute(select(func.max(incidents.c.serial)).where(incidents.c.year == year)).scalar()
    serial = (last or 0) + 1
    numbered = incident.model_copy(update={"number": incident.number or f"IR-{year}-{serial:04d}"})
    connection.execute(
        insert(incidents),
        {
            "id": numbered.id, "year": year, "serial": serial, "number": numbered.number, "closed": False,
            "body": numbered.model_dump_json(),
        },
    )  # fmt: skip
    return numbered


def index(connection: Connection, incident: Incident, *, closed: bool) -> None:
    """Refresh an incident's row. Raises JournalError when it was never opened."""
    changed = connection.execute(
        update(incidents).where(incidents.c.id == incident.id).values(closed=closed, body=incident.model_dump_json())
    )
    if changed.rowcount == 0:
        raise JournalError("no such incident was opened", where=incident.id)


def open_ones(connection: Connection) -> list[Incident]:
    """Incidents not closed, oldest first."""
    rows = connection.execute(select(incidents.c.body).where(incidents.c.closed.is_(False)).order_by(*_OLDEST_FIRST))
    return [incident_of(body) for body in rows.scalars()]


def find(connection: Connection, text: str) -> Incident | None:
    """By number or ULID, any case."""
    wanted = key(text.strip())
    body = connection.execute(
        select(incidents.c.body).where(
            or_(incidents.c.number == wanted.upper(), incidents.c.id.in_([wanted, wanted.upper()]))
        )
    ).scalar()
    return None if body is None else incident_of(body)


def newest(connection: Connection, closed: bool | None, limit: int) -> list[tuple[Incident, bool]]:
    """(incident, closed), newest first."""
    query = select(incidents.c.body, incidents.c.closed)
    if closed is not None:
        query = query.where(incidents.c.closed.is_(closed))
    rows = connection.execute(query.order_by(*(column.desc() for column in _OLDEST_FIRST)).limit(limit))
    return [(incident_of(row[0]), bool(row[1])) for row in rows]
