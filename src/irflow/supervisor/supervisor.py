"""One supervisor starts, watches, restarts and stops the processes of a stack."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from irflow.core.errors import ServiceMissing
from irflow.supervisor.service import GRACE_S, Child, Service, end_leftovers

TICK_S = 0.05
CALM_S = 60.0
MOST_RESTARTS = 5
"""So many restarts of one service within CALM_S seconds and the supervisor gives up, loudly."""

Report = Callable[[str], None]


class Supervisor:
    """Runs services under one folder; a second one for the same folder is refused.

    run_dir: lock and process ids. logs: one file per service. report: called with one line per event.
    """

    def __init__(self, services: Sequence[Service], run_dir: Path, logs: Path, report: Report) -> None:
        self._children = {one.name: Child(one, logs, run_dir / "pids") for one in services}
        self._run_dir, self._report = run_dir, report
        self._restarts: dict[str, list[float]] = {name: [] for name in self._children}
        self._lock: IO[str] | None = None
        self.stopping = threading.Event()
        self.failure: ServiceMissing | None = None

    def pids(self) -> dict[str, int]:
        """The process ids by service."""
        return {name: child.pid for name, child in self._children.items() if child.pid and child.status() is None}

    def start(self) -> None:
        """Start everything, in parallel as far as `after` allows. Raises ServiceMissing; then nothing is left."""
        self._take_lock()
        for name in end_leftovers(self._run_dir / "pids"):
            self._report(f"{name}: ended one that an earlier run left behind")
        try:
            self._start_all()
        except BaseException:  # also Ctrl-C: nothing may stay
            self.stop()
            raise

    def _start_all(self) -> None:
        waiting = dict(self._children)
        starting: dict[str, Child] = {}
        ready: set[str] = set()
        while waiting or starting:
            for name, child in list(waiting.items()):
                if set(child.service.after) <= ready:
                    child.start()
                    starting[name] = waiting.pop(name)
            for name, child in list(starting.items()):
                took = time.monotonic() - child.started_at
                if child.check_ready():
                    self._report(f"{name}: ready in {took:.1f} s")
                    ready.add(name)
                    del starting[name]
                elif took > child.service.ready_s:
                    raise ServiceMissing(
                        f"{name} is not ready after {took:.0f} s; its last lines:\n{child.tail()}", where=str(child.log)
                    )
            if self.stopping.wait(TICK_S):
                raise ServiceMissing("stopped while starting")

    def watch(self) -> None:
        """Restart what dies, until stop() or until a service dies too often: then raises ServiceMissing."""
        while not self.stopping.wait(0.2):
            for name, child in self._children.items():
                status = child.status()
                if status is not None and not self.stopping.is_set():
                    self._restart(name, child, status)

    def watch_in_background(self) -> None:
        """watch() in a thread; what it raises is kept in `failure` and reported."""

        def run() -> None:
            try:
                self.watch()
            except ServiceMissing as error:
                self.failure = error
                self._report(str(error))

        threading.Thread(target=run, name="supervisor", daemon=True).start()

    def _restart(self, name: str, child: Child, status: int) -> None:
        now = time.monotonic()
        recent = [moment for moment in self._restarts[name] if moment > now - CALM_S]
        self._restarts[name] = [*recent, now]
        if len(recent) >= MOST_RESTARTS:
            raise ServiceMissing(
                f"{name} ended {len(recent) + 1} times within {CALM_S:.0f} s; its last lines:\n{child.tail()}",
                where=str(child.log),
            )
        self._report(f"{name}: ended with {status}, starting it again")
        if not self.stopping.wait(min(5.0, 0.2 * 2 ** len(recent))):
            child.end(time.monotonic())
            child.start()

    def stop(self) -> None:
        """End everything: SIGTERM, a grace, SIGKILL. Twice is fine."""
        self.stopping.set()
        children = [child for child in self._children.values() if child.pid]
        for child in children:
            child.ask_to_end()
        deadline = time.monotonic() + GRACE_S
        for child in children:
            child.end(deadline)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_lock(self) -> None:
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (self._run_dir / "supervisor.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            lock.close()
            raise ServiceMissing(
                f"a stack already runs here (pid {holder})",
                where=str(self._run_dir),
                hint="Stop it first: Ctrl-C there",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
