"""Fixtures: stores on SQLite and on a real PostgreSQL. A conftest that wants them imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from irflow.adapters.journal_sql import SqlStore, open_store
from irflow.core.ports import SystemClock
from tests.services.postgres import PostgresServer, running_postgres

Opener = Callable[..., SqlStore]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a folder; each test has its own database."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that does not exist yet, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'journal.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def opened(url: str) -> Iterator[Opener]:
    """Opens stores on the test's database, and closes them at its end."""
    stores: list[SqlStore] = []

    def more(**options: Any) -> SqlStore:
        stores.append(open_store(url, **{"clock": SystemClock(), **options}))
        return stores[-1]

    yield more
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Opener) -> SqlStore:
    """One store."""
    return opened()
