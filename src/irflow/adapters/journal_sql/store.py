"""The journal's database as the rest of irflow uses it: core.ports.Store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from irflow.adapters.journal_sql.database import Database, passing
from irflow.adapters.journal_sql.schema import migrate
from irflow.adapters.journal_sql.transaction import SqlTransaction
from irflow.adapters.journal_sql.writer import Writer
from irflow.core.errors import JournalError
from irflow.core.incident import Incident
from irflow.core.journal import Event
from irflow.core.ports import Clock, OutboxItem, Transaction

T = TypeVar("T")

READ_TRIES = 3
"""A read has no effect, so a lost connection is simply tried again, at most so often."""


class SqlStore:
    """Implements core.ports.Store on SQLite or PostgreSQL. Open it after a fork: it belongs to one process.

    Whether a heartbeat, a lease or a leader is stale is judged by one clock for all: the PostgreSQL server's, or for
    a SQLite file, whose processes share a machine, that machine's.
    """

    def __init__(self, database: Database, fault: Callable[[str], None] | None) -> None:
        self.database = database
        self._process = os.getpid()
        self._closed = False
        self._writer = Writer(database, fault)

    @property
    def commits(self) -> int:
        """How many database commits this process has made."""
        return self._writer.commits

    @property
    def waiting(self) -> int:
        """How many works wait for the next commit."""
        return self._writer.waiting

    def _own(self) -> None:
        if self._closed:
            raise JournalError("the journal is closed", where=self.database.name)
        if os.getpid() != self._process:
            raise JournalError(
                f"the journal was opened by process {self._process} and is used by its child {os.getpid()}",
                where=self.database.name,
                hint="Open the store after the fork",
            )

    # ------------------------------------------------------------ transactions

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run work inside one transaction and return its result after the commit is durable.

        Raises JournalError when the database fails, else whatever work raises.
        """
        return self._transact(work)

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run work on a snapshot of what is committed; it cannot write and waits for no writer."""
        return self._read(work)

    def _transact(self, work: Callable[[SqlTransaction], T]) -> T:
        self._own()
        return self._writer.submit(work)

    def _read(self, work: Callable[[SqlTransaction], T]) -> T:
        self._own()
        for left in reversed(range(READ_TRIES)):
            try:
                with self.database.reading.connect() as connection, connection.begin():
                    return work(SqlTransaction(self.database, connection))
            except DBAPIError as error:
                if not left or not passing(error):
                    raise self.database.error(error, "the journal could not be read") from error
        raise AssertionError("unreachable")

    # ------------------------------------------------------------ the journal

    def events(self, incident: str, after: int = 0) -> list[Event]:
        """The chain after a sequence number."""
        return self._read(lambda tx: tx.events(incident, after))

    def find_incident(self, text: str) -> Incident | None:
        """By number (`IR-2026-0001`, any case) or ULID."""
        return self._read(lambda tx: tx.find_incident(text))

    def incidents(self, *, closed: bool | None = None, limit: int = 100) -> list[tuple[Incident, bool]]:
        """(incident, closed), newest first."""
        return self._read(lambda tx: tx.incidents(closed, limit))

    def position(self) -> int:
        """Grows with every event of any journal; all writers share one lock, so ids are in the order of commits."""
        return self._read(lambda tx: tx.position())

    def halted(self) -> str | None:
        """The reason all automation is halted, or None."""
        return self._read(lambda tx: tx.halted())

    # ------------------------------------------------------------ claims, runs, leaders

    def heartbeat(self, owner: str) -> None:
        """Refresh all claims and runs of an owner."""
        self._transact(lambda tx: tx.heartbeat(owner))

    def lead(self, role: str, owner: str, *, ttl_s: float) -> bool:
        """Whether owner is (or just became) the leader for a role; others become it ttl_s after its last call."""
        if self._read(lambda tx: tx.led_by_other(role, owner)):
            return False
        return self._transact(lambda tx: tx.lead(role, owner, ttl_s))

    # ------------------------------------------------------------ the outbox

    def take(self, kinds: Sequence[str], owner: str, *, lease_s: float, limit: int = 32) -> list[OutboxItem]:
        """Due outbox items, oldest first; nobody else gets them for lease_s seconds. Counts an attempt."""
        wanted = tuple(kinds)
        if not self._read(lambda tx: tx.any_due(wanted)):  # the usual answer, without an fsync
            return []
        return self._transact(lambda tx: tx.take(wanted, owner, lease_s, limit))

    def done(self, item_id: str) -> None:
        """The item's work has happened."""
        self._transact(lambda tx: tx.done(item_id))

    def again(self, item_id: str, due: datetime, error: str) -> None:
        """Try the item again later. error: one line, never a secret."""
        self._transact(lambda tx: tx.again(item_id, due, error))

    def pending(self) -> list[OutboxItem]:
        """All outbox items not done."""
        return self._read(lambda tx: tx.pending())

    def close(self) -> None:
        """Finish pending commits and disconnect. In a forked child nothing happens: it owns nothing here."""
        if os.getpid() == self._process and not self._closed:
            self._closed = True
            self._writer.close()
            self.database.close()


def open_store(url: str, *, clock: Clock, fault: Callable[[str], None] | None = None) -> SqlStore:
    """Connect, bring the schema up to date, start the writer.

    url: `sqlite:////path/journal.db` or `postgresql+psycopg://...`. fault: called with `before:POINT` just before the
    commit that holds such an event, and with `after:POINT` once it is durable and before any caller hears of it.
    Raises ConfigurationError for another URL, ServiceMissing when the server is not there, JournalError otherwise.
    """
    database = Database(url, clock)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database, fault)
