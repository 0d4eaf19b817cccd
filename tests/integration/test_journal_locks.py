"""A process that opens its SQLite journal a second time keeps its locks on it: nobody takes the log from under it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from irflow.adapters.journal_sql import open_store
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.core.ports import SystemClock

_ANOTHER_PROCESS = """
import sys
from irflow.adapters.journal_sql import open_store
from irflow.core.ports import SystemClock
store = open_store(sys.argv[1], clock=SystemClock())
print(len(store.events("system")))
store.close()
"""


def seen_by_another_process(url: str) -> int:
    """How many events of `system` a process sees that opens the journal, reads and closes it."""
    done = subprocess.run([sys.executable, "-c", _ANOTHER_PROCESS, url], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_what_is_written_after_a_second_opening_is_seen_by_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    first = open_store(url, clock=SystemClock())
    try:
        note = Draft(Kind.NOTE, "test", {"text": "a"})
        first.transact(lambda tx: tx.append(SYSTEM, note))
        second = open_store(url, clock=SystemClock())
        second.close()
        assert seen_by_another_process(url) == 1
        assert (tmp_path / "journal.db-wal").exists(), "another process took the log away that is in use"
        first.transact(lambda tx: tx.append(SYSTEM, note))
        assert seen_by_another_process(url) == 2
    finally:
        first.close()
