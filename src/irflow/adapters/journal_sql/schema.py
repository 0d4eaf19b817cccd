"""Bring a database to this version's schema when it is opened; safe when many processes start at once."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from irflow.adapters.journal_sql.database import Database, passing
from irflow.core.errors import JournalError, ServiceMissing

HEAD = "0001"
"""The newest revision under migrations/versions."""

PATIENCE_S = 30.0
"""How long to wait for another process that is migrating."""


def migrate(database: Database) -> None:
    """Create or upgrade the tables; nothing happens when they are up to date.

    Raises ServiceMissing when the database cannot be reached, JournalError when it cannot be used.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            _migrate(database)
            return
        except DBAPIError as error:
            if not passing(error) or time.monotonic() > deadline or not _connected_once(database):
                failed = database.error(error, "the journal cannot be opened")
                if database.sqlite:
                    raise failed from error
                raise ServiceMissing(failed.message, where=failed.where, hint=failed.hint) from error
            database.dispose()
            time.sleep(0.05)


def _connected_once(database: Database) -> bool:
    """Whether waiting makes sense: a server that cannot be reached at all is said at once."""
    if database.sqlite:
        return True
    try:
        with database.reading.connect():
            return True
    except DBAPIError:
        return False


def _migrate(database: Database) -> None:
    with database.reading.connect() as connection:
        if _revision(connection) == HEAD:
            return
    if database.sqlite:
        _use_wal(database)
    with database.writing.begin() as connection:
        database.lock(connection)
        found = _revision(connection)
        if found == HEAD:
            return
        if found is not None and found > HEAD:
            raise JournalError(
                f"the journal has schema {found}, this irflow knows up to {HEAD}",
                where=database.name,
                hint="Run the newer irflow that upgraded it",
            )
        _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _use_wal(database: Database) -> None:
    """Readers then never wait for the writer. Kept in the file, and cannot be set inside a transaction."""
    raw = database.writing.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()


def _upgrade(connection: Connection) -> None:
    # Imported late: alembic costs a tenth of a second that only the first start needs.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
