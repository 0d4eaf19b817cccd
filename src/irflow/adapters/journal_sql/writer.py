"""Group commit: one thread writes for the whole process; many callers share one commit and its fsync."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import DBAPIError
from ulid import ULID

from irflow.adapters.journal_sql.chain import Head
from irflow.adapters.journal_sql.database import Database, passing
from irflow.adapters.journal_sql.tables import writers
from irflow.adapters.journal_sql.transaction import Batch, SqlTransaction
from irflow.core.errors import JournalError

T = TypeVar("T")

BATCH = 256
"""Most works that share a commit, so that no caller waits for an endless batch."""
MOST_HEADS = 10_000
"""How many chains' heads are kept in memory between batches."""
PATIENCE_S = 30.0
"""How long a batch is tried again after locks, deadlocks and lost connections."""
_DAY_US = 86_400_000_000


@dataclass
class _Job:
    """A caller's work and where its outcome goes."""

    work: Callable[[SqlTransaction], Any]
    outcome: Future[Any] = field(default_factory=Future)


@dataclass
class _Attempt:
    """A batch with its number and what came of its works."""

    number: int
    batch: Batch = field(default_factory=Batch)
    results: list[tuple[Any, BaseException | None]] = field(default_factory=list)


class Writer:
    """The only writer of this process. commits: how many database commits there were, for tests and benchmarks."""

    def __init__(self, database: Database, fault: Callable[[str], None] | None) -> None:
        self._database = database
        self._fault = fault
        self._name = str(ULID())
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._connection: Connection | None = None
        self._heads: dict[str, Head] = {}
        self._version: int | None = None
        self._doubtful: _Attempt | None = None
        self._known = False
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="irflow-journal", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many works are queued."""
        return self._queue.qsize()

    def submit(self, work: Callable[[SqlTransaction], T]) -> T:
        """Queue work, wait until it is durable, return its result or raise its exception."""
        if threading.current_thread() is self._thread:
            raise JournalError("transact was called inside transact", hint="Use the transaction at hand")
        job = _Job(work)
        with self._gate:
            if self._closed:
                raise JournalError("the journal is closed", where=self._database.name)
            self._queue.put(job)
        result: T = job.outcome.result()
        return result

    def close(self) -> None:
        """Finish what is queued and disconnect."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        ended = False
        while not ended:
            first = self._queue.get()
            if first is None:
                break
            jobs = [first]
            with suppress(Empty):
                while len(jobs) < BATCH and not ended:
                    job = self._queue.get_nowait()
                    if job is None:
                        ended = True
                    else:
                        jobs.append(job)
            self._settle(jobs)
        self._leave()

    def _settle(self, jobs: list[_Job]) -> None:
        """Commit the works of a batch and wake their callers, whatever happens."""
        deadline = time.monotonic() + PATIENCE_S
        pause = 0.002
        while True:
            try:
                with self._database.turn(PATIENCE_S):
                    attempt = self._attempt(jobs)
                break
            except DBAPIError as error:
                self._disconnect()
                if not passing(error) or time.monotonic() > deadline:
                    unsure = "it is unknown whether the journal was written"
                    doing = "the journal could not be written" if self._doubtful is None else unsure
                    self._fail(jobs, self._database.error(error, doing))
                    return
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter is no secret
                pause = min(pause * 2, 0.5)
            except BaseException as error:  # noqa: BLE001 - a fault hook's or our own: no caller may be left waiting
                self._disconnect()
                self._fail(jobs, error)
                return
        for job, (result, raised) in zip(jobs, attempt.results, strict=True):
            if raised is None:
                job.outcome.set_result(result)
            else:
                job.outcome.set_exception(raised)

    def _fail(self, jobs: list[_Job], error: BaseException) -> None:
        self._doubtful = None
        for job in jobs:
            job.outcome.set_exception(error)

    def _attempt(self, jobs: list[_Job]) -> _Attempt:
        """One database transaction for all works. Raises DBAPIError when it failed as a whole."""
        connection = self._connect()
        transaction = connection.begin()
        try:
            self._database.lock(connection)
            doubtful = self._doubtful
            if doubtful is not None and self._last_committed(connection) == doubtful.number:
                attempt = doubtful  # the commit did happen; only the answer to it was lost
            else:
                attempt = _Attempt(self.commits + 1, Batch(self._remembered(connection)))
                for job in jobs:
                    attempt.results.append(self._work(connection, job, attempt.batch))
                attempt.batch.flush(connection)
                self._mark(connection, attempt.number)
                self._name_points("before", attempt.batch)
        except BaseException:
            with suppress(DBAPIError):  # the connection may be gone; the first error is the one to tell
                transaction.rollback()
            raise
        self._doubtful = attempt
        transaction.commit()
        self._doubtful = None
        self.commits += 1
        if len(attempt.batch.heads) <= MOST_HEADS:
            self._heads = attempt.batch.heads
        self._name_points("after", attempt.batch)
        return attempt

    def _remembered(self, connection: Connection) -> dict[str, Head]:
        """The heads of the last batch, if nobody else has committed since. Forgotten until this batch is committed."""
        heads, self._heads = self._heads, {}
        version, self._version = self._version, self._database.version(connection)
        return heads if version is not None and version == self._version else {}

    def _work(self, connection: Connection, job: _Job, batch: Batch) -> tuple[Any, BaseException | None]:
        """One work. A failure that takes the whole transaction along is raised."""
        tx = SqlTransaction(self._database, connection, batch)
        try:
            result = job.work(tx)
        except DBAPIError as error:
            if passing(error):
                raise
            tx.drop()
            return None, self._database.error(error, "the journal refused a write")
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller, whatever it is
            tx.drop()
            return None, error
        tx.keep()
        return result, None

    def _name_points(self, when: str, batch: Batch) -> None:
        if self._fault is not None:
            for point in batch.points:
                self._fault(f"{when}:{point}")

    # ------------------------------------------------------------ the connection

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.writing.connect()
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._version = None  # it counts per connection
        if connection is not None:
            with suppress(DBAPIError):
                connection.invalidate()
                connection.close()

    def _last_committed(self, connection: Connection) -> int | None:
        number: int | None = connection.execute(select(writers.c.batch).where(writers.c.id == self._name)).scalar()
        return number

    def _mark(self, connection: Connection, number: int) -> None:
        """Leave the batch's number, on PostgreSQL only: a SQLite commit has no answer that could get lost."""
        if self._database.sqlite:
            return
        now = self._database.now_us(connection)
        if self._known:
            values = {"batch": number, "seen_us": now}
            if connection.execute(update(writers).where(writers.c.id == self._name).values(**values)).rowcount:
                return
        connection.execute(delete(writers).where(writers.c.seen_us < now - _DAY_US))
        connection.execute(delete(writers).where(writers.c.id == self._name))
        connection.execute(insert(writers), {"id": self._name, "batch": number, "seen_us": now})
        self._known = True

    def _leave(self) -> None:
        """Take our mark away and disconnect."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(DBAPIError):  # a mark left behind is removed after a day
            if not self._database.sqlite:
                with connection.begin():
                    connection.execute(delete(writers).where(writers.c.id == self._name))
            connection.close()
