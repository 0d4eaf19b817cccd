"""Our own Prefect server: loopback, SQLite under the installation's home, password from the first start on.

`python -m irflow.flows.server PORT`, with IRFLOW_HOME set. A new database takes Prefect 4 seconds of migrations, so a
migrated empty one is kept in the user's cache folder and copied from then on.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from irflow.config import default_home
from irflow.flows import environment
from irflow.redaction import install

HOST = "127.0.0.1"


def template() -> Path:
    """Where the migrated empty database of this Prefect version is kept (XDG Base Directory Specification 0.8)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "irflow" / f"prefect-{version('prefect')}.sqlite"


def run_server(port: int) -> None:
    """Serve until SIGTERM. port: on 127.0.0.1."""
    from irflow.adapters.catalog import load_settings

    settings = load_settings(default_home())
    environment.enter(settings, environment.server_environment(settings, HOST, port))
    database = settings.prefect_home.absolute() / "prefect.db"
    fresh = not database.exists()
    if fresh:
        _from_template(database)

    import uvicorn
    from prefect.server.api.server import create_app

    _write_at_once()
    if fresh and not template().exists():
        _migrate()
        with contextlib.suppress(OSError, sqlite3.Error):  # a convenience for the next time, nothing more
            _keep(database)
    uvicorn.run(create_app(final=True), host=HOST, port=port, log_level="warning", access_log=False)


def _write_at_once() -> None:
    """Have Prefect's transactions on SQLite begin as writers.

    They begin as readers, and one that then writes while another has written fails at once, whatever the time-out
    (SQLITE_BUSY_SNAPSHOT): requests are answered 503, automations fire twice. Writers wait for their turn.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def immediate(self: Any, session: Any, with_for_update: bool = False) -> Any:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = immediate  # type: ignore[method-assign]


def _from_template(database: Path) -> None:
    """Begin with the kept database, if it is ours alone to write."""
    kept = template()
    try:
        stat = kept.stat()
        if stat.st_uid != os.getuid() or stat.st_mode & 0o022:
            return
        content = kept.read_bytes()
    except OSError:
        return
    with os.fdopen(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _migrate() -> None:
    import asyncio

    from prefect.server.database import provide_database_interface

    async def work() -> None:
        await provide_database_interface().create_db()

    asyncio.run(work())


def _keep(database: Path) -> None:
    """Copy the migrated database, which nobody writes to yet, whole and atomically."""
    kept = template()
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        copy = Path(folder) / "copy"
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
        copy.chmod(0o600)
        copy.replace(kept)


if __name__ == "__main__":
    install()
    run_server(int(sys.argv[1]))
