"""A backup repository in memory. It keeps the contract in tests/adapters/test_backups_contract.py, as restic does."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from irflow.core.backups import ReadBack, Stored
from irflow.core.errors import IrflowError
from irflow.core.model import Json


@dataclass
class FakeBackups:
    """core.backups.Backups. refuse: errors for the next streams, raised at their first byte. spoil: content that comes
    back instead of what was saved. listable: whether anything can list streams; every line of one is an entry."""

    refuse: list[IrflowError] = field(default_factory=list)
    spoil: bytes | None = None
    listable: bool = True
    left: int | None = None
    streams: dict[str, tuple[Stored, bytes, dict[str, Json]]] = field(default_factory=dict)
    tags: list[tuple[str, ...]] = field(default_factory=list)
    _serial: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def find(self, keys: Sequence[str], *, timeout_s: float) -> tuple[Stored, ...]:
        return tuple(one for one, _, _ in self.streams.values() if one.key in keys)

    @contextmanager
    def save(self, key: str, name: str, *, host: str, tags: Sequence[str], timeout_s: float) -> Iterator[FakeSaving]:
        self.tags.append(tuple(tags))
        yield FakeSaving(self, Stored(f"snapshot{next(self._serial)}", name, key, "2026-01-01T00:00:00Z"))

    def details(self, one: Stored, *, timeout_s: float) -> dict[str, Json]:
        return self.streams[one.id][2]

    def read_back(self, one: Stored, kind: str, *, timeout_s: float) -> ReadBack:
        content = self.streams[one.id][1] if self.spoil is None else self.spoil
        entries = content.count(b"\n") if self.listable else None
        return ReadBack(hashlib.sha256(content).hexdigest(), len(content), entries, listable=self.listable)

    def forget(self, unfinished: Sequence[Stored], *, timeout_s: float) -> bool:
        if any(one.whole for one in unfinished):
            raise ValueError("a whole backup is kept")
        for one in unfinished:
            del self.streams[one.id]
        return True

    def room(self) -> int | None:
        return self.left


@dataclass
class FakeSaving:
    """One stream on its way in."""

    backups: FakeBackups
    about: Stored
    content: bytes = b""

    def write(self, piece: bytes) -> None:
        if self.backups.refuse:
            raise self.backups.refuse.pop(0)
        self.content += piece

    def complete(self, sha256: str, facts: dict[str, Json]) -> None:
        whole = replace(self.about, receipt=f"{self.about.id}r", sha256=sha256, bytes=len(self.content))
        self.backups.streams[whole.id] = (whole, self.content, dict(facts))
