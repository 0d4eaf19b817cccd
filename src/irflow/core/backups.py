"""What core needs from a backup repository: streams go in, whole ones are found again and read back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from irflow.core.errors import ServiceMissing
from irflow.core.model import Json


@dataclass(frozen=True)
class Saved:
    """One stream that is in the backup repository, whole.

    id: the snapshot's. name: the path within it. key: what it was saved under. sha256, bytes: of the stream.
    at: when it was begun. facts: what was known about it when it was complete.
    """

    id: str
    name: str
    key: str
    sha256: str
    bytes: int
    at: str
    facts: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadBack:
    """What came out of the repository again. entries: what it lists, None when nothing here can list it.

    trouble: why it could not be listed, or what was wrong with it.
    """

    sha256: str
    bytes: int
    entries: int | None
    trouble: str = ""


class Saving(Protocol):
    """One stream on its way into the repository."""

    def write(self, piece: bytes) -> None:
        """Take one piece; returns when it was handed on. Raises ServiceMissing, RepositoryLocked, IrflowError."""
        ...

    def complete(self, sha256: str, facts: dict[str, Json]) -> Saved:
        """End the stream and mark it as whole; without this call nothing of it counts. Raises as write."""
        ...


class Backups(Protocol):
    """Keeps streams, encrypted and de-duplicated. A stream counts only once it was marked as whole."""

    def find(self, keys: Sequence[str], *, timeout_s: float) -> dict[str, Saved]:
        """Whole streams by the key they were saved under, the newest of each. Raises ServiceMissing, IrflowError."""
        ...

    def save(
        self, key: str, name: str, *, host: str, tags: Sequence[str], timeout_s: float
    ) -> AbstractContextManager[Saving]:
        """Begin a stream; the repository is made when there is none. Left without `complete`, nothing is kept.

        key: `[a-z0-9]+`, what `find` is asked for. name: absolute path within the snapshot. tags: for people; commas
        are replaced. Raises ServiceMissing, RepositoryLocked, IrflowError.
        """
        ...

    def read_back(self, saved: Saved, kind: str, *, timeout_s: float) -> ReadBack:
        """Read a stream again and list what is in it. kind: `tar` or `pg_dump`. Raises ServiceMissing, IrflowError."""
        ...

    def room(self) -> int | None:
        """Bytes that the repository's disk still takes, None where nobody can say."""
        ...


class NoBackups:
    """A process without a repository: every use is refused."""

    def find(self, keys: Sequence[str], *, timeout_s: float) -> dict[str, Saved]:
        """Refused."""
        raise _no_repository()

    def save(
        self, key: str, name: str, *, host: str, tags: Sequence[str], timeout_s: float
    ) -> AbstractContextManager[Saving]:
        """Refused."""
        raise _no_repository()

    def read_back(self, saved: Saved, kind: str, *, timeout_s: float) -> ReadBack:
        """Refused."""
        raise _no_repository()

    def room(self) -> int | None:
        """Refused."""
        raise _no_repository()


def _no_repository() -> ServiceMissing:
    return ServiceMissing("this process has no backup repository", hint="Run it where irflow.yaml says `backup:`")


NO_BACKUPS = NoBackups()
