"""A process that writes to a journal until it is told to stop or killed: `journal_writer URL NAME THREADS COUNT`.

Each thread appends to the chain `shared` and prints `NAME THREAD TURN SEQ` once the append was acknowledged.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from irflow.adapters.faults import from_environment
from irflow.adapters.journal_sql import open_store
from irflow.core.journal import Draft, Kind
from irflow.core.ports import SystemClock


def main(url: str, name: str, threads: int, count: int) -> None:
    """Write count events per thread."""
    store = open_store(url, clock=SystemClock(), fault=from_environment())
    lines = threading.Lock()

    def write(thread: int) -> None:
        for turn in range(count):
            draft = Draft(Kind.NOTE, "irflow:test", {"by": f"{name} {thread} {turn}"})
            (event,) = store.transact(lambda tx, draft=draft: tx.append("shared", draft))  # type: ignore[misc]
            with lines:
                os.write(1, f"{name} {thread} {turn} {event.seq}\n".encode())

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
