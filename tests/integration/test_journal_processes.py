"""The journal under several processes, kills, forks and a database server that crashes."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from irflow.adapters.journal_sql import SqlStore, open_store
from irflow.adapters.journal_sql.schema import HEAD
from irflow.core.errors import ConfigurationError, JournalError, ServiceMissing
from irflow.core.journal import Draft, Kind, verify
from irflow.core.ports import SystemClock
from tests.services.postgres import PostgresServer, running_postgres
from tests.services.stores import Opener, opened, postgres, store, url

__all__ = ["opened", "postgres", "store", "url"]

NOTE = Draft(Kind.NOTE, "irflow:test", {"text": "seen"})


@contextmanager
def writer(
    url: str, name: str, *, threads: int = 4, count: int = 25, fault: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A writing process; killed at the end of the block if it still runs."""
    command = [sys.executable, "-m", "tests.services.journal_writer", url, name, str(threads), str(count)]
    environment = os.environ | {"IRFLOW_FAULT": fault}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(output: str) -> dict[str, int]:
    """What a writer was told is durable: text -> sequence number. A line cut by the kill does not count."""
    lines = re.findall(r"^(\S+ \d+ \d+) (\d+)\n", output, re.MULTILINE)
    return {by: int(seq) for by, seq in lines}


def kept(store: SqlStore) -> dict[str, int]:
    events = store.events("shared")
    assert verify("shared", events, ()).intact
    by = {event.data["by"]: event.seq for event in events}
    assert len(by) == len(events)
    return by


def test_processes_that_write_one_chain_at_once_lose_and_double_nothing(url: str, opened: Opener) -> None:
    with writer(url, "a") as a, writer(url, "b") as b, writer(url, "c") as c:
        outputs = [process.communicate(timeout=60)[0] for process in (a, b, c)]
        assert [process.returncode for process in (a, b, c)] == [0, 0, 0]
    told = {by: seq for output in outputs for by, seq in acknowledged(output).items()}
    assert len(told) == 300
    assert kept(opened()) == told


def test_what_was_acknowledged_is_there_after_kill_9_mid_stream(url: str, opened: Opener) -> None:
    for turn in range(3):
        with writer(url, f"w{turn}", threads=8, count=100_000) as process:
            assert process.stdout is not None
            seen = [process.stdout.readline() for _ in range(50 * (turn + 1))]
            process.kill()
            told = acknowledged("".join(seen) + process.stdout.read())
        assert len(told) >= len(seen)
        there = kept(opened())
        assert {by: there.get(by) for by in told} == told


def test_a_process_that_writes_without_a_pause_leaves_the_others_their_turn(url: str, opened: Opener) -> None:
    store = opened()
    with writer(url, "busy", threads=8, count=1_000_000) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with ThreadPoolExecutor(1) as pool:
            draining = pool.submit(process.stdout.read)
            start = time.monotonic()
            for _ in range(30):
                store.transact(lambda tx: tx.append("I", NOTE))
            took = time.monotonic() - start
            process.kill()
            draining.result(30)
    # Without a queue about 15 s, with it 0.1 s.
    assert took < 5


@pytest.mark.parametrize(("fault", "expected"), [("before:note#3", 2), ("after:note#3", 3)])
def test_a_kill_at_a_fault_point_is_just_before_or_after_durability(
    url: str, opened: Opener, fault: str, expected: int
) -> None:
    with writer(url, "a", threads=1, fault=fault) as process:
        output = process.communicate(timeout=60)[0]
        assert process.returncode == -signal.SIGKILL
    assert len(acknowledged(output)) == 2
    assert len(kept(opened())) == expected


def test_many_processes_may_open_a_new_database_at_once(url: str, opened: Opener) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: open_store(url, clock=SystemClock()), range(6)))
    for one in stores:
        one.transact(lambda tx: tx.append("I", NOTE))
        one.close()
    with writer(url, "a", count=1) as a, writer(url, "b", count=1) as b, writer(url, "c", count=1) as c:
        assert [process.wait(60) for process in (a, b, c)] == [0, 0, 0]
    assert len(opened().events("I")) == 6


def test_the_migrated_schema_is_the_one_the_code_uses(store: SqlStore) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from irflow.adapters.journal_sql import schema
    from irflow.adapters.journal_sql.tables import metadata

    with store.database.reading.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert ScriptDirectory(str(Path(schema.__file__).parent / "migrations")).get_heads() == [HEAD]


def test_a_journal_of_a_newer_irflow_is_left_alone(url: str, opened: Opener) -> None:
    with opened().database.writing.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(JournalError, match="schema 9999"):
        opened()


def test_a_forked_child_is_told_to_open_its_own_store(store: SqlStore) -> None:
    store.transact(lambda tx: tx.append("I", NOTE))
    reader, writer_end = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        said = []
        for call in (lambda: store.transact(lambda tx: tx.append("I", NOTE)), lambda: store.events("I")):
            try:
                call()
            except JournalError as error:
                said.append(str(error))
        store.close()
        os.write(writer_end, "\n".join(said).encode())
        os._exit(0)
    os.close(writer_end)
    with os.fdopen(reader) as pipe:
        said_lines = pipe.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert len(said_lines) == 2
    assert all("after the fork" in line for line in said_lines)
    store.transact(lambda tx: tx.append("I", NOTE))
    assert len(store.events("I")) == 2


FILES = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.db-queue", "journal.db-turn")


class TestSqliteFiles:
    def test_the_file_and_its_folder_are_for_their_owner_alone(self, tmp_path: Path) -> None:
        store = open_store(f"sqlite:///{tmp_path}/new/journal.db", clock=SystemClock())
        store.transact(lambda tx: tx.append("I", NOTE))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
        store.close()
        assert modes == dict.fromkeys(FILES, 0o600)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700

    def test_it_writes_ahead_and_syncs_every_commit(self, tmp_path: Path) -> None:
        store = open_store(f"sqlite:///{tmp_path}/journal.db", clock=SystemClock())
        with store.database.writing.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        store.close()

    def test_a_file_that_is_no_database_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "journal.db").write_text("hello, this is a text file, and not a small one\n" * 100)
        with pytest.raises(JournalError, match="no SQLite file"):
            open_store(f"sqlite:///{tmp_path}/journal.db", clock=SystemClock())

    def test_a_folder_that_cannot_be_made_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(JournalError, match="cannot be opened"):
            open_store(f"sqlite:///{tmp_path}/file/journal.db", clock=SystemClock())

    @pytest.mark.parametrize("wrong", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense", ""])
    def test_other_databases_are_refused(self, wrong: str) -> None:
        with pytest.raises(ConfigurationError, match="Write sqlite:"):
            open_store(wrong, clock=SystemClock())


class TestPostgresqlFailures:
    def test_a_server_that_is_not_there_is_said_without_the_password(self, tmp_path: Path) -> None:
        with pytest.raises(ServiceMissing) as caught:
            open_store(f"postgresql+psycopg://irflow:hunter2@/x?host={tmp_path}", clock=SystemClock())
        assert "hunter2" not in str(caught.value)
        assert "See whether PostgreSQL runs" in str(caught.value)

    def test_a_connection_cut_before_its_commit_is_opened_again_and_the_work_run_again(
        self, postgres: PostgresServer
    ) -> None:
        url = postgres.new_database()
        cut = iter([True])

        def hook(point: str) -> None:
            if point == "before:note" and next(cut, False):
                _cut_connections(postgres, url)

        store = open_store(url, clock=SystemClock(), fault=hook)
        store.transact(lambda tx: tx.append("I", NOTE))
        assert [event.seq for event in store.events("I")] == [1]
        store.close()

    def test_a_commit_whose_answer_was_lost_is_not_done_twice(self, postgres: PostgresServer) -> None:
        store = open_store(postgres.new_database(), clock=SystemClock())
        store.transact(lambda tx: tx.append("I", NOTE))
        with _answers_lost_once(store):
            (event,) = store.transact(lambda tx: tx.append("I", NOTE))
        assert [one.seq for one in store.events("I")] == [1, event.seq]
        store.close()

    def test_after_a_crash_of_the_server_reading_and_writing_go_on(self) -> None:
        with running_postgres() as server:
            store = open_store(server.new_database(), clock=SystemClock())
            store.transact(lambda tx: tx.append("I", NOTE))
            server.stop(signal.SIGQUIT)
            with ThreadPoolExecutor(1) as pool:
                pending = pool.submit(store.transact, lambda tx: tx.append("I", NOTE))
                server.start()
                assert pending.result(30)[0].seq == 2
            assert len(store.events("I")) == 2
            store.close()

    def test_the_server_ends_the_transaction_of_a_frozen_writer(self, postgres: PostgresServer) -> None:
        store = open_store(postgres.new_database(), clock=SystemClock())
        with store.database.writing.connect() as connection:
            assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "10s"
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"
        store.close()


def _cut_connections(server: PostgresServer, url: str) -> None:
    database = url.split("/")[3].split("?")[0]
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")


@contextmanager
def _answers_lost_once(store: SqlStore) -> Iterator[None]:
    """The next commit reaches the server; its answer does not come back."""
    dialect = store.database.writing.dialect
    real = dialect.do_commit
    calls: list[bool] = []

    def commit(connection: Any) -> None:
        real(connection)
        calls.append(True)
        if len(calls) == 1:
            connection.driver_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    dialect.do_commit = commit  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        dialect.do_commit = real  # type: ignore[method-assign]
    assert len(calls) == 2
