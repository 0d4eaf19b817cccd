"""Verify the chains as they lie in the database, row by row, against the anchors outside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Protocol

from rfc8785 import CanonicalizationError
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from irflow.adapters.journal_sql.store import SqlStore
from irflow.adapters.journal_sql.tables import incidents
from irflow.core.errors import JournalError
from irflow.core.journal import Anchor, Damage, Event, Finding, Verification, canonical, verify
from irflow.core.model import Json
from irflow.core.ports import Anchors

_COLUMNS = "id, incident, seq, at, kind, step, target, epoch, actor, data, prev, hash"


class AnchorArchive(Anchors, Protocol):
    """Anchors that know which chains they have."""

    def incidents(self) -> tuple[str, ...]:
        """The chains that have anchors."""
        ...


def verify_incident(store: SqlStore, anchors: Anchors, incident: str) -> Verification:
    """Verify one chain. Damage, also to its anchors, is found and never raised.

    Raises JournalError when the database cannot be read at all.
    """
    with _reading(store) as connection:
        rows = [_event(row) for row in _rows(store, connection, incident)]
        return _verified(anchors, incident, rows, _known(connection))


def verify_all(store: SqlStore, anchors: AnchorArchive) -> tuple[Verification, ...]:
    """Verify every chain that has events, anchors or an incident."""
    results: dict[str, Verification] = {}
    with _reading(store) as connection:
        known = _known(connection)
        for incident, rows in groupby(map(_event, _rows(store, connection, None)), key=lambda event: event.incident):
            results[incident] = _verified(anchors, incident, list(rows), known)
        for incident in {*known, *anchors.incidents()} - set(results):
            results[incident] = _verified(anchors, incident, [], known)
    return tuple(results[incident] for incident in sorted(results))


class _reading:
    """A connection for damaged rows; what the database itself cannot read becomes a JournalError."""

    def __init__(self, store: SqlStore) -> None:
        self._database = store.database
        self._connection = store.database.forensic()

    def __enter__(self) -> Connection:
        return self._connection.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._connection.__exit__(kind, error, trace)
        if isinstance(error, DBAPIError):
            raise self._database.error(error, "the journal could not be read") from error


def _known(connection: Connection) -> frozenset[str]:
    return frozenset(connection.execute(select(incidents.c.id)).scalars())


def _rows(store: SqlStore, connection: Connection, incident: str | None) -> Iterator[Mapping[Any, Any]]:
    """Rows in the order they were written. From the table itself: an index may disagree with a damaged table."""
    table = "events NOT INDEXED" if store.database.sqlite else "events"
    which = "" if incident is None else "WHERE incident = :incident"
    query = text(f"SELECT {_COLUMNS} FROM {table} {which} ORDER BY incident, id")  # noqa: S608 - constants only
    result = connection.execution_options(yield_per=1000).execute(
        query, {} if incident is None else {"incident": incident}
    )
    return iter(result.mappings())


def _verified(anchors: Anchors, incident: str, rows: list[Event], known: frozenset[str]) -> Verification:
    signed: tuple[Anchor, ...] = ()
    more: list[Finding] = []
    try:
        signed = anchors.load(incident)
    except JournalError as error:
        more.append(Finding(Damage.FORGED_ANCHOR, incident, 0, str(error)))
    result = verify(incident, rows, signed)
    if not rows and not signed and incident in known:
        more.append(Finding(Damage.CUT_TAIL, incident, 1, "the incident was opened, but none of its events is there"))
    return Verification(incident, result.events, (*more, *result.findings), result.unanchored)


def _event(row: Mapping[Any, Any]) -> Event:
    """A row as an event, whatever was done to it: what cannot be read stays in a form that gives another hash."""
    return Event(
        _text(row["incident"]), _number(row["seq"]), _text(row["at"]), _text(row["kind"]), _text(row["step"]),
        _text(row["target"]), _number(row["epoch"]), _text(row["actor"]), _data(_text(row["data"])),
        _text(row["prev"]), _text(row["hash"]),
    )  # fmt: skip


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _data(stored: str) -> dict[str, Json]:
    """Only the exact canonical text counts: another spelling of the same JSON was not written by irflow."""
    try:
        data: dict[str, Json] = json.loads(stored)
        if isinstance(data, dict) and canonical(data) == stored.encode():
            return data
    except (ValueError, RecursionError, CanonicalizationError):
        pass
    return {"unreadable": stored}
