"""Keeping leases: renewed at half-life, looked at every minute, tried more rarely where nobody answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from irflow.core import leases as rules
from irflow.core.engine import Engine
from irflow.core.errors import IrflowError
from irflow.core.leases import Finding
from irflow.core.status import IncidentStatus, Lease
from irflow.responder.lease_look import LeaseLook, Looked

log = logging.getLogger(__name__)

Place = tuple[str, str, str]
"""Incident, kind, target."""


@dataclass
class _Watch:
    """What this process remembers of a lease. failures: looks in a row that told nothing."""

    due: datetime
    failures: int = 0


class LeaseKeeper:
    """Looks at all targets in parallel, but at each by one thread only, however many leases it has."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._look = LeaseLook(engine, engine.actor)
        self._watched: dict[Place, _Watch] = {}
        self._busy: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(engine.slots.count, thread_name_prefix="lease")

    def keep(self, incident: str) -> None:
        """Start what is due for an incident; returns at once."""
        status, now = self._engine.status(incident), self._engine.ports.clock.now()
        due = [lease for lease in rules.kept(status) if now >= self._due(incident, lease)]
        due += [lease for lease in rules.to_end(status, now) if now >= self._due(incident, lease, lease.until)]
        for target, leases in by_target(due):
            with self._lock:
                if (incident, target) in self._busy:
                    continue
                self._busy.add((incident, target))
            self._pool.submit(self._target, status, target, leases)

    def _due(self, incident: str, lease: Lease, first: datetime | None = None) -> datetime:
        watch = self._watched.get((incident, lease.kind, lease.target))
        return watch.due if watch else first or rules.first_look(lease)

    def _target(self, status: IncidentStatus, target: str, leases: list[Lease]) -> None:
        try:
            for held in by_step(leases):
                self._step(status, held)
        except IrflowError as error:
            log.error("leases on %s: %s", target, error)
        except Exception:  # a thread's last line
            log.exception("leases on %s", target)
        finally:
            with self._lock:
                self._busy.discard((status.incident.id, target))

    def _step(self, status: IncidentStatus, held: list[Lease]) -> None:
        clock = self._engine.ports.clock
        now = clock.now()
        for lease in held:  # also when what follows raises, it is not tried again at once
            self._remember(status.incident.id, lease, now, failed=True)
        if status.step(held[0].step).short_s is not None:
            found: tuple[Looked, ...] = tuple(self._look.end(status, lease) for lease in held)
        else:
            found = self._look.look(status, held, renew=any(rules.renewable(lease, now) for lease in held))
        for one in found:
            self._learn(status.incident.id, one, clock.now())

    def _learn(self, incident: str, one: Looked, now: datetime) -> None:
        failed = one.finding in (Finding.UNREACHABLE, Finding.BUSY)
        lease = self._engine.status(incident).leases.get((one.lease.kind, one.lease.target), one.lease)
        if not failed:
            self._watched.pop((incident, lease.kind, lease.target), None)
        self._remember(incident, lease, now, failed=failed, again=failed)

    def _remember(self, incident: str, lease: Lease, now: datetime, *, failed: bool, again: bool = False) -> None:
        """When to look next. again: the failure was counted already."""
        place = incident, lease.kind, lease.target
        before = self._watched.get(place)
        failures = (before.failures if before else 0) + (1 if failed and not again else 0)
        failures = failures if failed else 0
        self._watched[place] = _Watch(rules.next_look(lease, failures, now), failures)

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def look_at_all(
    look: LeaseLook, statuses: Iterable[IncidentStatus], *, parallel: int
) -> list[tuple[IncidentStatus, Looked]]:
    """Look at every lease of some incidents now, many targets at the same time; in the order of the incidents."""

    def one(status: IncidentStatus, leases: list[Lease]) -> list[tuple[IncidentStatus, Looked]]:
        return [(status, found) for held in by_step(leases) for found in look.look(status, held)]

    work = [(status, leases) for status in statuses for _, leases in by_target(rules.kept(status))]
    with ThreadPoolExecutor(max(1, min(parallel, len(work))), thread_name_prefix="lease") as pool:
        return [found for part in pool.map(lambda each: one(*each), work) for found in part]


def by_target(leases: Iterable[Lease]) -> list[tuple[str, list[Lease]]]:
    """The leases of each target."""
    ordered = sorted(leases, key=lambda lease: lease.target)
    return [(target, list(part)) for target, part in groupby(ordered, key=lambda lease: lease.target)]


def by_step(leases: Iterable[Lease]) -> list[list[Lease]]:
    """The leases of each step, which are looked at together."""
    ordered = sorted(leases, key=lambda lease: lease.step)
    return [list(part) for _, part in groupby(ordered, key=lambda lease: lease.step)]
