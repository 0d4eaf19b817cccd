"""What core needs from a backup repository: streams go in, whole ones are found again and read back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from irflow.core.errors import ServiceMissing
from irflow.core.model import Json


@dataclass(frozen=True)
class Stored:
    """One stream in the repository.

    id: its snapshot's. name: its path within that. key: what it was saved under. at: when it was begun, RFC 3339.
    receipt: the snapshot that says it is whole, with sha256 and bytes of the stream; empty when nothing says so.
    """

    id: str
    name: str
    key: str
    at: str
    receipt: str = ""
    sha256: str = ""
    bytes: int = 0

    @property
    def whole(self) -> bool:
        """Whether everything that was sent is in it; what is not whole is of no use."""
        return bool(self.receipt)


@dataclass(frozen=True)
class ReadBack:
    """What came out of the repository again.

    entries: how many things it lists, None when it could not be listed; then trouble says why. listable: whether
    anything here lists such streams; without it, only the hash speaks.
    """

    sha256: str
    bytes: int
    entries: int | None
    trouble: str = ""
    listable: bool = True


class Saving(Protocol):
    """One stream on its way into the repository."""

    def write(self, piece: bytes) -> None:
        """Take one piece; returns when it was handed on, or when the time is over. Raises as Backups.save."""
        ...

    def complete(self, sha256: str, facts: dict[str, Json]) -> None:
        """End the stream and mark it as whole. sha256: as the source computed it. facts: kept beside it."""
        ...


class Backups(Protocol):
    """Keeps streams, encrypted and de-duplicated. A stream counts only once it was marked as whole.

    All raise ServiceMissing (restic is not installed), ConfigurationError (password), IrflowError (anything else).
    """

    def find(self, keys: Sequence[str], *, timeout_s: float) -> tuple[Stored, ...]:
        """The streams that were saved under these keys, whole or not, oldest first."""
        ...

    def save(
        self, key: str, name: str, *, host: str, tags: Sequence[str], timeout_s: float
    ) -> AbstractContextManager[Saving]:
        """Begin a stream; the repository is made when there is none. Left without `complete`, it does not count.

        key: `[a-z0-9]+`. name: absolute path. tags: for people; commas are replaced. Also raises RepositoryLocked, here
        or from what is done with the stream.
        """
        ...

    def details(self, one: Stored, *, timeout_s: float) -> dict[str, Json]:
        """The facts that a whole stream was completed with."""
        ...

    def read_back(self, one: Stored, kind: str, *, timeout_s: float) -> ReadBack:
        """Read a stream again and list what is in it. kind: `tar` or `pg_dump`."""
        ...

    def forget(self, unfinished: Sequence[Stored], *, timeout_s: float) -> bool:
        """Drop streams that are not whole. False when others are at work in the repository, so that they stay."""
        ...

    def room(self) -> int | None:
        """Bytes that may still be written there, None where nobody can say."""
        ...


class NoBackups:
    """A process without a repository: every use is refused."""

    def find(self, keys: Sequence[str], *, timeout_s: float) -> tuple[Stored, ...]:
        """Refused."""
        raise _none()

    def save(
        self, key: str, name: str, *, host: str, tags: Sequence[str], timeout_s: float
    ) -> AbstractContextManager[Saving]:
        """Refused."""
        raise _none()

    def details(self, one: Stored, *, timeout_s: float) -> dict[str, Json]:
        """Refused."""
        raise _none()

    def read_back(self, one: Stored, kind: str, *, timeout_s: float) -> ReadBack:
        """Refused."""
        raise _none()

    def forget(self, unfinished: Sequence[Stored], *, timeout_s: float) -> bool:
        """Refused."""
        raise _none()

    def room(self) -> int | None:
        """Nobody can say."""
        return None


def _none() -> ServiceMissing:
    return ServiceMissing("this process has no backup repository", hint="Run it where irflow.yaml can be read")


NO_BACKUPS = NoBackups()
