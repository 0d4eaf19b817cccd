"""The database of our Prefect server, made ready before it serves: migrated, and with Prefect's own kinds of block.

The server would do both anew at each start, two fifths of the work until it is ready; and a new database takes
4 seconds of migrations. So a database says for which version of Prefect it is ready, and an empty one that is ready is
kept in the user's cache folder and copied from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
import zlib
from importlib.metadata import version
from pathlib import Path


def make_ready(database: Path) -> None:
    """Make it, or bring it up to this version of Prefect. Called with Prefect's environment set, before the server."""
    fresh = not database.exists()
    if fresh:
        begin_with_kept(database)
    if _mark_of(database) == _mark():
        return
    asyncio.run(_prepare())
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {_mark()}")
    if fresh:
        with contextlib.suppress(OSError, sqlite3.Error):  # a convenience for the next time, nothing more
            _keep(database)


def template() -> Path:
    """Where the empty database of this Prefect version is kept (XDG Base Directory Specification 0.8)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "irflow" / f"prefect-{version('prefect')}-ready.sqlite"


def _mark() -> int:
    """Stands for the version of Prefect, in SQLite's own field for such a number, which Prefect does not use."""
    return zlib.crc32(version("prefect").encode()) & 0x7FFFFFFF


def _mark_of(database: Path) -> int:
    """What a database says it is ready for; 0 when it does not, or is none."""
    if not database.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(database)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError:  # Prefect's to report, in its own words
        return 0


async def _prepare() -> None:
    from prefect.server.database import provide_database_interface
    from prefect.server.models.block_registration import run_block_auto_registration

    interface = provide_database_interface()
    await interface.create_db()
    async with await interface.session() as session:
        await run_block_auto_registration(session=session)
    await (await interface.engine()).dispose()


def begin_with_kept(database: Path) -> bool:
    """Copy the kept database, if there is one and it is ours alone to write. Returns whether it was copied."""
    kept = template()
    try:
        stat = kept.stat()
        if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
            return False
        content = kept.read_bytes()
    except OSError:
        return False
    beside = database.with_name(f".{database.name}.new")  # half a database that calls itself ready would stay broken
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(database)
    return True


def _keep(database: Path) -> None:
    """Copy the database, which nobody writes to yet, whole and atomically."""
    kept = template()
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        copy = Path(folder) / "copy"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        copy.chmod(0o600)
        copy.replace(kept)
