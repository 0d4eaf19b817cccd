"""What differs between SQLite and PostgreSQL: connecting, the write lock, the clock, the errors."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool, QueuePool

from irflow.adapters.journal_sql.turnstile import Turnstile
from irflow.core.errors import ConfigurationError, JournalError
from irflow.core.ports import Clock
from irflow.core.revealed import remember

WRITE_LOCK = 0x6972666C6F77
"""Key of the advisory lock of all writers of one PostgreSQL database: `irflow` in ASCII."""

BUSY_MS = 5000
"""How long SQLite waits for another process before it says `database is locked`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PASSING = frozenset({"40001", "40P01", "55P03", "25P03", "57P01", "57P02", "57P03", "53300"})
"""SQLSTATEs that another try can cure: serialization, deadlock, lock and idle time-outs, restarts, no free slot."""


def to_us(moment: datetime) -> int:
    """Whole microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(number: int) -> datetime:
    """The moment so many microseconds after 1970 UTC."""
    return _EPOCH + timedelta(microseconds=number)


def parse_url(text_: str) -> URL:
    """Read a database URL. Raises ConfigurationError on anything but SQLite files and PostgreSQL."""
    hint = "Write sqlite:////path/journal.db or postgresql+psycopg://user@host/database"
    try:
        url = make_url(text_)
    except ArgumentError as error:
        raise ConfigurationError("the database URL cannot be read", hint=hint) from error
    remember(url.password or "")
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername in ("sqlite", "sqlite+pysqlite") and url.database and url.database != ":memory:":
        return url
    if url.drivername == "postgresql+psycopg":
        return url
    raise ConfigurationError(f"irflow cannot keep its journal in {url.render_as_string(hide_password=True)}", hint=hint)


class Database:
    """One database. Staleness, leases and due times are judged by `now_us`: one clock for all that share it.

    On PostgreSQL that is the server's clock; a SQLite file has its processes on one machine, so it is `clock`.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = parse_url(url)
        self.clock = clock
        self.sqlite = self.url.drivername.startswith("sqlite")
        self.name = self.url.database if self.sqlite else self.url.render_as_string(hide_password=True)
        self._turnstile: Turnstile | None = None
        if self.sqlite:
            path = Path(str(self.url.database))
            _create_file(path)
            self._turnstile = Turnstile(path)
        self.writing = self._engine(write=True)
        self.reading = self._engine(write=False)

    def _engine(self, *, write: bool) -> Engine:
        if self.sqlite:
            pool: dict[str, Any] = (
                {"poolclass": NullPool} if write else {"poolclass": QueuePool, "pool_size": 8, "max_overflow": -1}
            )
            engine = create_engine(self.url, hide_parameters=True, connect_args={"check_same_thread": False}, **pool)
            event.listen(engine, "connect", _set_up_writer if write else _set_up_reader)
            event.listen(engine, "begin", _begin_immediate if write else _begin_deferred)
            return engine
        settings = {
            "synchronous_commit": "on", "lock_timeout": "10s", "statement_timeout": "30s",
            # A frozen process must not keep the write lock: the server ends its transaction.
            "idle_in_transaction_session_timeout": "10s",
        }  # fmt: skip
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        pool = {"poolclass": NullPool} if write else {"pool_size": 4, "max_overflow": 28}
        return create_engine(
            self.url, hide_parameters=True, **pool,
            isolation_level="READ COMMITTED" if write else "REPEATABLE READ",
            execution_options={} if write else {"postgresql_readonly": True},
            connect_args={"connect_timeout": 10, "application_name": "irflow", "options": options},
        )  # fmt: skip

    def turn(self, patience_s: float) -> AbstractContextManager[None]:
        """Queue for writing where the database has no queue of its own."""
        return nullcontext() if self._turnstile is None else self._turnstile.turn(patience_s)

    def lock(self, connection: Connection) -> None:
        """Make this transaction the only writer. SQLite has done so at BEGIN IMMEDIATE.

        One lock for the whole database, not one per chain: batches touch many chains, and with one lock there is
        no order of locks to get wrong, no deadlock, and epochs and incident numbers have no gaps.
        """
        if not self.sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})

    def now_us(self, connection: Connection) -> int:
        """Now, by the clock that judges staleness."""
        if self.sqlite:
            return to_us(self.clock.now())
        return int(
            connection.execute(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")).scalar_one()
        )

    def version(self, connection: Connection) -> int | None:
        """SQLite's number that changes whenever another connection has committed; None where there is no such thing."""
        if not self.sqlite:
            return None
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    @contextmanager
    def forensic(self) -> Iterator[Connection]:
        """A connection that can read damaged text: bytes that are not UTF-8 come back as `\\xNN`."""
        if not self.sqlite:
            with self.reading.connect() as connection:
                yield connection
            return
        engine = create_engine(self.url, hide_parameters=True, poolclass=NullPool)
        event.listen(engine, "connect", _set_up_forensic)
        event.listen(engine, "begin", _begin_deferred)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def dispose(self) -> None:
        """Disconnect. What is used again connects again."""
        self.reading.dispose()
        self.writing.dispose()

    def close(self) -> None:
        """Disconnect for good."""
        self.dispose()
        if self._turnstile is not None:
            self._turnstile.close()

    def error(self, error: Exception, doing: str) -> JournalError:
        """What people read when the database fails; never holds parameters or a password."""
        cause = getattr(error, "orig", None) or error
        said = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        return JournalError(f"{doing}: {said}", where=self.name, hint=_hint(cause))


def passing(error: DBAPIError) -> bool:
    """Whether the whole transaction failed for a reason that another try can cure."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    import psycopg  # late: a journal in SQLite does without it

    if isinstance(cause, psycopg.Error) and cause.sqlstate:
        return cause.sqlstate in _PASSING or cause.sqlstate.startswith("08")
    return error.connection_invalidated or isinstance(cause, psycopg.OperationalError)


def _hint(cause: BaseException) -> str:
    if not isinstance(cause, sqlite3.Error):
        import psycopg

        lost = isinstance(cause, psycopg.OperationalError)
        return "See whether PostgreSQL runs and IRFLOW_DATABASE_URL is right" if lost else ""
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    hints = {
        sqlite3.SQLITE_BUSY: "Another process holds the journal for too long; see which with `irflow doctor`",
        sqlite3.SQLITE_FULL: "Free some disk space; nothing is acted upon until the journal can be written",
        sqlite3.SQLITE_READONLY: "Make the file and its folder writable for the user irflow runs as",
        sqlite3.SQLITE_CANTOPEN: "Make the folder writable for the user irflow runs as",
        sqlite3.SQLITE_CORRUPT: "The file is damaged: stop irflow, keep a copy of it, then run `irflow journal verify`",
        sqlite3.SQLITE_NOTADB: "This is no SQLite file; name another in IRFLOW_DATABASE_URL",
        sqlite3.SQLITE_IOERR: "Look at the disk: the kernel log says what failed",
    }
    return hints.get(code, "")


def _create_file(path: Path) -> None:
    """Make the file (0600) and its folder (0700) before SQLite would make them readable for others.

    A file that is there is never opened here: closing it would take away this process's POSIX locks on it, those of
    SQLite with them, and another process would then delete the write-ahead log that is in use
    (sqlite.org/howtocorrupt.html, section 2.2).
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        hint = "Make the folder writable for the user irflow runs as"
        raise JournalError(f"the journal cannot be opened: {error.strerror}", where=str(path), hint=hint) from error


def _set_up(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _begin_*
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")


def _set_up_writer(connection: sqlite3.Connection, _record: object) -> None:
    _set_up(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA recursive_triggers = ON")


def _set_up_reader(connection: sqlite3.Connection, _record: object) -> None:
    _set_up(connection)
    connection.execute("PRAGMA query_only = ON")


def _set_up_forensic(connection: sqlite3.Connection, record: object) -> None:
    _set_up_reader(connection, record)
    connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
