"""How incidents stand, for the pages: folded once, then only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from irflow.core.ports import Store
from irflow.core.status import IncidentStatus, fold

T = TypeVar("T")
KEPT = 256
"""Incidents of which the status is kept in memory."""


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    status: IncidentStatus | None = None


class Statuses:
    """Of one process. A status changes when it is folded further, so it is read only under its lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def look(self, incident: str, work: Callable[[IncidentStatus], T]) -> T:
        """Read what all committed events say of an incident. work: takes out what it needs and keeps nothing else."""
        with self._lock:
            kept = self._kept.pop(incident, None) or _Kept()
            self._kept[incident] = kept
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        with kept.lock:
            after = kept.status.last_seq if kept.status else 0
            fresh = self._store.events(incident, after)
            if fresh or kept.status is None:
                kept.status = fold(fresh, kept.status)
            return work(kept.status)
