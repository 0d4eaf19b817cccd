"""Processes queue for a SQLite file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irflow.adapters.journal_sql.turnstile import Turnstile
from irflow.core.errors import JournalError


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Turnstile, Turnstile]]:
    """As two processes have them: nothing in common but the files."""
    both = Turnstile(tmp_path / "journal.db"), Turnstile(tmp_path / "journal.db")
    yield both
    for one in both:
        one.close()


def test_one_at_a_time(two: tuple[Turnstile, Turnstile]) -> None:
    inside: list[int] = []

    def enter(number: int) -> None:
        for _ in range(50):
            with two[number].turn(20):
                inside.append(number)
                assert len(inside) == 1
                inside.clear()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(enter, range(2)))


def test_who_waits_comes_before_who_has_just_written(two: tuple[Turnstile, Turnstile]) -> None:
    busy, patient = two
    stop = threading.Event()
    turns = 0

    def write_without_a_pause() -> None:
        nonlocal turns
        while not stop.is_set():
            with busy.turn(20):
                turns += 1
                time.sleep(0.003)  # a commit

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write_without_a_pause)
        try:
            waited = []
            for _ in range(30):
                before = turns
                with patient.turn(20):
                    waited.append(turns - before)
        finally:
            stop.set()
            writing.result(20)
    assert max(waited) <= 3


def test_a_turn_that_never_comes_is_an_error_that_names_the_file(
    two: tuple[Turnstile, Turnstile], tmp_path: Path
) -> None:
    with two[0].turn(20), pytest.raises(JournalError, match=r"journal\.db-turn"), two[1].turn(0.05):
        pass
    with two[1].turn(0.05):
        pass
