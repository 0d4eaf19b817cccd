"""How one secret is rotated so that a crash at any point loses nothing: one document decides, step by step.

The document holds the live value and, during a rotation, the staged and the old one. Each transition is one
check-and-set of it, so promoting and giving up exclude each other. What the target does in between can be done twice.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from irflow.core.errors import CheckFailed, IrflowError, OutcomeUnknown
from irflow.core.model import Json
from irflow.core.secret import SecretValue


class OnFailure(StrEnum):
    """What happens when the new value turns out not to work.

    rollback: the value from before works again, although somebody else may know it. disable_account: nobody gets in
    until a rotation succeeds.
    """

    ROLLBACK = "rollback"
    DISABLE_ACCOUNT = "disable_account"


class Result(StrEnum):
    """How a rotation ended."""

    ROTATED = "rotated"
    UNCHANGED = "unchanged"
    """This run had rotated it before, or a sweep found nothing to finish."""
    ROLLED_BACK = "rolled back"
    DISABLED = "disabled"


class SecretBusy(IrflowError):
    """Another rotation of the same secret is under way; nothing was changed."""


class Overtaken(IrflowError):
    """The document was changed by somebody else since it was read; nothing was written."""


class TargetRefused(IrflowError):
    """The target said no to a change, for good: trying again would end the same."""


class StillAccepted(IrflowError):
    """The target still accepts a value that it must refuse."""


class Stuck(OutcomeUnknown):
    """Neither value is known to work. Both stay in the document."""


@dataclass(frozen=True)
class Staged:
    """A value on its way. run: the rotation it belongs to. giving_up: the policy once it was found not to work."""

    run: str
    new: SecretValue
    giving_up: OnFailure | None = None


@dataclass(frozen=True)
class Document:
    """All that decides about one secret. version: what a check-and-set compares. run: the last rotation that ended.

    given_up: the last rotation that was given up; older versions have its value until they are destroyed.
    name: what it is called where it lives, its reference; versions of documents with other names do not compare.
    since: when the live value was made, as far as anybody noted it.
    old: the value before, until it is proved refused. rest: fields that are not irflow's (a user name ...), kept.
    """

    live: SecretValue
    version: int
    run: str = ""
    staged: Staged | None = None
    old: SecretValue | None = None
    disabled: bool = False
    rest: dict[str, Json] = field(default_factory=dict, repr=False)
    name: str = ""
    since: datetime | None = None
    given_up: str = ""


class Authority(Protocol):
    """Where the document of one secret lives."""

    def read(self) -> Document:
        """The document as it is now. Raises ServiceMissing, ConfigurationError."""
        ...

    def write(self, document: Document) -> Document:
        """Put it in place of the version it was read as; durable when it returns. Raises Overtaken, ServiceMissing."""
        ...

    def forget(self, keep: int) -> None:
        """Destroy every version before `keep`, for good."""
        ...


class Writer(Protocol):
    """Changes a target while nobody else can. Every call can be repeated.

    document: what was decided on. Its version grows with every decision: a target whose lock can be lost keeps the
    largest it has seen and refuses smaller ones, so that whoever was overtaken changes nothing any more.
    """

    def apply(self, new: SecretValue, document: Document) -> None:
        """Have the target accept `new`. Raises TargetRefused."""
        ...

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Accept `value` no more, and end what was opened with it; the document's live value goes on working."""
        ...

    def disable(self, document: Document) -> None:
        """Let nobody in, whatever the value."""
        ...

    def enable(self, document: Document) -> None:
        """Take `disable` back."""
        ...


class Target(Protocol):
    """What asks for the secret: a database, a host, a service.

    overlap: whether the old and the new value can both be accepted, so that nobody who reads the document is refused.
    asks: whether it can be asked if it accepts a value; where it cannot, the document alone is the secret.
    """

    overlap: bool
    asks: bool

    def new_value(self) -> SecretValue:
        """A value nobody knows, of the form that the target wants."""
        ...

    def fence(self) -> AbstractContextManager[Writer]:
        """Keep all others out. The lock is the connection's that changes the target, and ends with it.

        Raises SecretBusy, ServiceMissing, HostError.
        """
        ...

    def admits(self, value: SecretValue) -> bool:
        """Try to get in from outside, as an attacker would. An answer that is neither yes nor no raises."""
        ...


Passed = Callable[[str, int], object]
"""Told each transition when it is durable, with the document's version. May raise; the next run goes on from there."""


@dataclass(frozen=True)
class Rotation:
    """How one rotation ended. before, after: versions of the document.

    gap_s: how long the document's value was refused; None where the old one worked until the new one was live.
    """

    result: Result
    before: int
    after: int
    gap_s: float | None = None


def today() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


@dataclass
class Rotator:
    """Rotates one secret. now: seconds that never go back; date: the time of day. passed: see Passed.

    deliver: puts the live value where it is read besides the document; called before the old one is ended.
    """

    authority: Authority
    target: Target
    on_failure: OnFailure
    now: Callable[[], float]
    passed: Passed = lambda step, version: None
    deliver: Callable[[SecretValue], None] | None = None
    date: Callable[[], datetime] = today

    @property
    def overlap(self) -> bool:
        """See Target."""
        return self.target.overlap

    @property
    def meanwhile(self) -> str:
        """What those who read the document meet while it is replaced."""
        return "served" if self.overlap else "refused for a moment"

    def rotate(self, run: str) -> Rotation:
        """Give the secret a new value, prove that it works and that the old one is refused. The same run never twice.

        What an earlier run left is finished first. Raises SecretBusy, Overtaken, StillAccepted, Stuck, and what the
        authority and the target raise when they cannot answer: then nothing is decided and the next call goes on.
        """
        with self.target.fence() as writer:
            document = self.authority.read()
            self.passed("read", document.version)
            mine = document.run == run or (document.staged is not None and document.staged.run == run)
            finished = self._finish(writer, document)
            if mine:
                return finished or _unchanged(document)
            document = self.authority.read() if finished else document
            if not self.target.asks:
                return self._replace(document, run)
            staged = Staged(run, self.target.new_value())
            document = self._write(replace(document, staged=staged), "staged")
            return self._finish(writer, document) or _unchanged(document)

    def sweep(self) -> Rotation:
        """Finish what a crash left; without such, nothing happens. Raises as rotate."""
        document = self.authority.read()
        if not document.staged and not document.old:
            self._tidy(document)
            return _unchanged(document)
        with self.target.fence() as writer:
            document = self.authority.read()
            return self._finish(writer, document) or _unchanged(document)

    def verify(self) -> Rotation:
        """Prove that the live value gets in and that no rotation is under way; changes nothing.

        Raises CheckFailed saying what is wrong, and what the authority and the target raise.
        """
        document = self.authority.read()
        if document.staged or document.old:
            raise CheckFailed("a rotation is under way or was cut off", hint="Finish it: irflow secrets sweep")
        if document.disabled:
            raise CheckFailed("the account is disabled, no value works", hint="Rotate it: irflow secrets rotate")
        if self.target.asks and not self.target.admits(document.live):
            raise CheckFailed("the live value is refused", hint="Somebody changed it elsewhere: irflow secrets rotate")
        return _unchanged(document)

    def changed(self) -> datetime | None:
        """When the live value was made; None if not noted, or while an older one may still work. Raises as sweep."""
        document = self.authority.read()
        return None if document.staged or document.old else document.since

    def _replace(self, document: Document, run: str) -> Rotation:
        """One write is all where nobody else has to take the value, so nothing can be left half done."""
        new = replace(document, live=self.target.new_value(), run=run, since=self.date())
        if self.deliver:
            with self.target.fence() as writer:
                promoted = self._write(replace(new, old=document.live), "promoted")
                return self._finish(writer, promoted) or _unchanged(promoted)
        written = self._write(new, "promoted")
        self.authority.forget(written.version)
        self.passed("destroyed", written.version)
        return Rotation(Result.ROTATED, document.version, written.version)

    def _finish(self, writer: Writer, document: Document) -> Rotation | None:
        """Bring a rotation under way to its end, None without one."""
        before, gap_s, result = document.version, None, Result.ROTATED
        if document.staged:
            if not document.staged.giving_up:
                document, gap_s = self._promote(writer, document, document.staged)
            if document.staged:
                document = self._give_up(writer, document, document.staged)
                result = Result.DISABLED if document.disabled else Result.ROLLED_BACK
        elif not document.old:
            self._tidy(document)
            return None
        if document.old:
            document = self._end(writer, document, document.old)
        self.authority.forget(document.version)
        self.passed("destroyed", document.version)
        return Rotation(result, before, document.version, gap_s)

    def _promote(self, writer: Writer, document: Document, staged: Staged) -> tuple[Document, float | None]:
        """Apply, test, promote. When it does not work, the document says so instead."""
        started, works = self.now(), False
        try:
            if document.disabled or not self.target.admits(staged.new):
                started = self.now()
                writer.apply(staged.new, document)
                if document.disabled:
                    writer.enable(document)
                self.passed("applied", document.version)
            works = self.target.admits(staged.new)
        except TargetRefused:
            works = False
        self.passed("tested", document.version)
        if not works:
            given_up = replace(document, staged=replace(staged, giving_up=self.on_failure))
            return self._write(given_up, "given_up"), None
        promoted = replace(
            document, live=staged.new, run=staged.run, old=document.live, staged=None, disabled=False, since=self.date()
        )
        return self._write(promoted, "promoted"), None if self.target.overlap else self.now() - started

    def _give_up(self, writer: Writer, document: Document, staged: Staged) -> Document:
        """Leave the target as the policy says, and only then forget the new value."""
        disable = staged.giving_up is OnFailure.DISABLE_ACCOUNT
        if self.target.overlap:
            writer.revoke(staged.new, document)
        if disable:
            writer.disable(document)
        elif not self.target.overlap and not self.target.admits(document.live):
            writer.apply(document.live, document)
        self.passed("withdrawn", document.version)
        if self.target.admits(document.live) is disable or self.target.admits(staged.new):
            raise Stuck(
                "the account could not be disabled" if disable else "the value from before does not work again",
                hint="Both values stay in the document; look at the target, then run irflow secrets sweep",
            )
        return self._write(replace(document, staged=None, disabled=disable, given_up=staged.run), "ended")

    def _end(self, writer: Writer, document: Document, old: SecretValue) -> Document:
        """The old value is dead, and proved so, before it is forgotten."""
        if self.deliver:
            self.deliver(document.live)
            self.passed("delivered", document.version)
        writer.revoke(old, document)
        self.passed("revoked", document.version)
        if self.target.asks and self.target.admits(old):
            raise StillAccepted("the old value is still accepted", hint="Close the account, then: irflow secrets sweep")
        self.passed("refused", document.version)
        return self._write(replace(document, old=None), "cleared")

    def _tidy(self, document: Document) -> None:
        """Destroy what a crash left in older versions; where irflow never changed anything they are not irflow's."""
        if document.run or document.given_up:
            self.authority.forget(document.version)

    def _write(self, document: Document, step: str) -> Document:
        written = self.authority.write(document)
        self.passed(step, written.version)
        return written


def _unchanged(document: Document) -> Rotation:
    return Rotation(Result.UNCHANGED, document.version, document.version)
