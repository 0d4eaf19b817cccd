"""A responder on another machine hears of new work as soon as it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from irflow.adapters.journal_sql import SqlStore, hearing, open_store
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.core.ports import SystemClock, Transaction
from tests.services.postgres import PostgresServer, running_postgres

SOON_S = 0.5
"""Far below the responder's poll interval of 1 s."""


class Ear:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.times = 0
        self._heard = threading.Condition()

    def __call__(self) -> None:
        with self._heard:
            self.times += 1
            self._heard.notify_all()

    def hears(self, times: int, within_s: float = SOON_S) -> bool:
        with self._heard:
            return self._heard.wait_for(lambda: self.times >= times, within_s)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.new_database()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    opened = open_store(url, clock=SystemClock())
    yield opened
    opened.close()


@pytest.fixture
def ear(store: SqlStore, url: str) -> Iterator[Ear]:
    """Hears; the first time is its own connecting."""
    listener = Ear()
    with hearing(url, listener):
        assert listener.hears(1, 10)
        yield listener


def test_work_in_the_outbox_is_heard_of_at_once(store: SqlStore, ear: Ear) -> None:
    store.transact(lambda tx: tx.enqueue("respond", {"incident": "x"}))
    assert ear.hears(2)


def test_what_a_person_decides_is_heard_of_and_what_irflow_writes_itself_is_not(store: SqlStore, ear: Ear) -> None:
    store.transact(lambda tx: tx.append(SYSTEM, Draft(Kind.NOTE, "irflow:responder", {"text": "t"})))
    assert not ear.hears(2)
    store.transact(lambda tx: tx.append(SYSTEM, Draft(Kind.NOTE, "operator:first", {"text": "t"})))
    assert ear.hears(2)


def test_work_that_was_not_committed_is_not_heard_of(store: SqlStore, ear: Ear) -> None:
    def fail(tx: Transaction) -> None:
        tx.enqueue("respond", {"incident": "x"})
        raise ValueError

    with pytest.raises(ValueError):
        store.transact(fail)
    assert not ear.hears(2)


def test_after_the_server_cut_the_connection_it_hears_again(server: PostgresServer, store: SqlStore, ear: Ear) -> None:
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'irflow news'")
    assert ear.hears(2, 10), "connecting again counts as news: something may have been said meanwhile"
    store.transact(lambda tx: tx.enqueue("respond", {"incident": "x"}))
    assert ear.hears(3)


def test_on_sqlite_there_is_nothing_to_hear(tmp_path_factory: pytest.TempPathFactory) -> None:
    threads = threading.active_count()
    with hearing(f"sqlite:///{tmp_path_factory.mktemp('s')}/journal.db", Ear()):
        assert threading.active_count() == threads
