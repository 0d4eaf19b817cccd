"""The supervisor: starts services in order, watches them, starts them again, ends them. One thread, one loop."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from irflow.core.errors import ServiceMissing
from irflow.supervisor.child import Child, end_leftovers
from irflow.supervisor.ports import require_free
from irflow.supervisor.service import Service

GRACE_S = 12.0
"""From SIGTERM to SIGKILL: longer than the worker gives its flow runs."""
CALM_S = 60.0
MOST_RESTARTS = 5
"""So many restarts of one service within CALM_S and the supervisor gives up, or waits that long if it is not vital."""
SLOWEST_S = 5.0
LATE_S = 10.0

Report = Callable[[str], None]


class Supervisor:
    """Runs services; a second one for the same run folder is refused.

    run_dir: lock and process ids. logs: one file per service. report: called with one line per event.
    Call tick() often; `up` says whether all have been ready.
    """

    def __init__(self, services: Sequence[Service], run_dir: Path, logs: Path, report: Report) -> None:
        self._run_dir, self._logs, self._report = run_dir, logs, report
        self._children = {one.name: Child(one, run_dir, logs) for one in services}
        self._due = dict.fromkeys(self._children, 0.0)
        self._restarts: dict[str, list[float]] = {name: [] for name in self._children}
        self._been_ready: set[str] = set()
        self._lock: IO[str] | None = None

    @property
    def up(self) -> bool:
        """Whether every service has been ready."""
        return self._been_ready == set(self._children)

    def prepare(self) -> None:
        """Take the folder, end what a killed supervisor left, check the ports. Raises ServiceMissing."""
        for folder in (self._run_dir, self._logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = take_lock(self._run_dir)
        left = end_leftovers(self._run_dir)
        if left:
            self._report(f"ended {len(left)} process(es) that an earlier stack left behind")
        for child in self._children.values():
            if child.service.port:
                require_free(*child.service.port, child.service.name)

    def tick(self) -> None:
        """One look at every service. Raises ServiceMissing when the stack cannot come up or a vital part stays down."""
        now = time.monotonic()
        for name, child in self._children.items():
            if not child.running:
                if now >= self._due[name] and set(child.service.after) <= self._been_ready:
                    child.start()
            elif (status := child.status()) is not None:
                self._ended(name, child, f"ended with {status}")
            elif not child.ready:
                self._look(name, child, now)

    def _look(self, name: str, child: Child, now: float) -> None:
        took = now - child.started_at
        if child.service.ready.check():
            child.ready = True
            self._been_ready.add(name)
            self._report(f"{name}: ready in {time.monotonic() - child.started_at:.1f} s")
        elif took > child.service.ready_s:
            self._ended(name, child, f"is not ready after {took:.0f} s")
        elif now - child.told_late > LATE_S:
            child.told_late = now
            self._report(f"{name}: not ready after {took:.0f} s; its log ends with\n{child.tail()}")

    def _ended(self, name: str, child: Child, how: str) -> None:
        """Start it again later, or give up."""
        child.bury()
        if name not in self._been_ready:
            raise ServiceMissing(f"{name} {how}; its log ends with\n{child.tail()}", where=str(child.log))
        now = time.monotonic()
        recent = [moment for moment in self._restarts[name] if moment > now - CALM_S]
        self._restarts[name] = [*recent, now]
        if len(recent) < MOST_RESTARTS:
            self._due[name] = now + min(SLOWEST_S, 0.2 * 2 ** len(recent))
            self._report(f"{name}: {how}, starting it again")
            return
        trouble = f"{name} {how}, {len(recent) + 1} times within {CALM_S:.0f} s; its log ends with\n{child.tail()}"
        if child.service.vital:
            raise ServiceMissing(trouble, where=str(child.log))
        self._due[name] = now + CALM_S
        self._report(f"{trouble}\n{name} is tried again in {CALM_S:.0f} s; containment does not need it")

    def stop(self) -> None:
        """End everything: SIGTERM, a grace, SIGKILL; those marked `last` after the others. Twice is fine."""
        running = [child for child in self._children.values() if child.running]
        for last in (False, True):
            wave = [child for child in running if child.service.last is last]
            for child in wave:
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_S
            while any(child.status() is None for child in wave) and time.monotonic() < deadline:
                time.sleep(0.02)
            for child in wave:
                if child.status() is None:
                    self._report(f"{child.service.name}: killed, it did not end within {GRACE_S:.0f} s")
                child.bury()
        if self._lock is not None:
            end_leftovers(self._run_dir)
            self._lock.close()
            self._lock = None


def lock_file(run_dir: Path) -> Path:
    """Held by the supervisor of this folder; its process id is in it."""
    return run_dir / "supervisor.lock"


def take_lock(run_dir: Path) -> IO[str]:
    """Raises ServiceMissing when another supervisor has it."""
    lock = lock_file(run_dir).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise ServiceMissing(
            f"a stack already runs here (supervisor's pid {pid or 'unknown'})", where=str(run_dir),
            hint="Stop that one first: Ctrl-C there, or irflow lab down --stack after `drill --keep`",
        ) from None  # fmt: skip
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
