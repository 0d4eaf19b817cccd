"""The database of our Prefect server is ready before it serves, however it came about, and nothing in it is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from irflow.flows import server_database

READY = """
import sys
from pathlib import Path
from irflow.adapters.catalog import load_settings
from irflow.flows import environment
settings = load_settings(Path(sys.argv[1]))
environment.enter(settings, environment.server_environment(settings, "127.0.0.1", 1))
from irflow.flows.server_database import make_ready
make_ready(settings.prefect_home / "prefect.db")
print("prefect.server.database" in sys.modules)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(home: Path) -> bool:
    """What the server does first. Returns whether Prefect had to work on its database."""
    if not home.exists():
        subprocess.run([sys.executable, "-m", "irflow", "--home", str(home), "init"], check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-c", READY, str(home)], check=True, capture_output=True, text=True)
    return done.stdout.strip() == "True"


@contextmanager
def opened(home: Path) -> Iterator[sqlite3.Connection]:
    (path,) = home.glob("**/prefect.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def rows(home: Path, table: str) -> int:
    with opened(home) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_it_is_made_once_and_copied_from_then_on_and_brought_up_to_date_with_what_is_in_it(
    cache: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert start(first)
    assert rows(first, "flow_run") == 0
    assert rows(first, "block_schema") > 10
    assert not start(second), "it is copied"
    assert not start(second), "nor is a restart any work"
    assert rows(second, "block_schema") == rows(first, "block_schema")

    with opened(second) as connection:
        connection.execute("INSERT INTO flow (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'kept')")
        connection.execute("DELETE FROM block_schema")
        connection.execute("PRAGMA user_version = 7")  # of another version of Prefect
    assert start(second)
    assert rows(second, "block_schema") == rows(first, "block_schema")
    with opened(second) as connection:
        assert connection.execute("SELECT name FROM flow").fetchall() == [("kept",)]
    assert not start(second)


def test_a_kept_one_that_others_may_write_to_is_not_trusted(cache: Path, tmp_path: Path) -> None:
    kept, database = server_database.template(), tmp_path / "prefect.db"
    assert not server_database.begin_with_kept(database), "there is none"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"anybody's")
    kept.chmod(0o666)
    assert not server_database.begin_with_kept(database)
    assert not database.exists()
    kept.chmod(0o600)
    assert server_database.begin_with_kept(database)
    assert database.read_bytes() == b"anybody's"


def test_killed_while_it_is_copied_the_next_start_begins_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, database = server_database.template(), tmp_path / "prefect.db"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"a database")

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", killed)
        server_database.begin_with_kept(database)
    assert not database.exists(), "nothing that is half there has its name"
    assert server_database.begin_with_kept(database)
    assert database.read_bytes() == b"a database"
