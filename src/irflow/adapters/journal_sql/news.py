"""Hearing of new work at once on several machines: PostgreSQL's NOTIFY, heard by each responder.

A SQLite file has its processes on one machine, where a unix socket wakes the responder. Either way a lost message costs
one poll interval, nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from irflow.adapters.journal_sql.database import parse_url

log = logging.getLogger(__name__)

CHANNEL = "irflow_work"
_LOOK_S = 1.0
"""How often a listener looks whether it should end, and waits before it connects again."""


def tell(connection: Connection) -> None:
    """Tell all responders, once this transaction is committed, that there is work. Nothing on SQLite."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"NOTIFY {CHANNEL}"))


@contextmanager
def hearing(url: str, hear: Callable[[], None]) -> Iterator[None]:
    """While it is open, `hear` is called in a thread of its own whenever there is work. Nothing on SQLite."""
    if not parse_url(url).drivername.startswith("postgresql"):
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_listen, args=(url, hear, over), name="news", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _listen(url: str, hear: Callable[[], None], over: threading.Event) -> None:
    import psycopg  # late: a journal in SQLite does without it

    where = parse_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    while not over.is_set():
        try:
            with psycopg.connect(where, autocommit=True, application_name="irflow news", connect_timeout=10) as held:
                held.execute(f"LISTEN {CHANNEL}")
                hear()  # what was said while nobody listened
                while not over.is_set():
                    if [*held.notifies(timeout=_LOOK_S, stop_after=1)]:
                        hear()
        except psycopg.Error as error:
            log.warning("not hearing of new work, so polling: %s", str(error).strip().splitlines()[0])
            over.wait(_LOOK_S)
