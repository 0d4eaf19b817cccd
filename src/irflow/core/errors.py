"""Every error irflow raises on purpose: one root, an exit code each, and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irflow.core.revealed import redact


@dataclass(frozen=True, order=True)
class Location:
    """A place in a file that a person wrote.

    path: the file as the person named it. line: 1-based; 0 when the whole file is meant.
    """

    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class IrflowError(Exception):
    """Root of all errors irflow raises on purpose.

    message: what failed. where: the host or file:line. hint: what to do next.
    Errors become journal events, states and lines on a terminal, so none ever holds a secret's value.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | Location | None = None, hint: str = "") -> None:
        self.message = redact(message)
        super().__init__(self.message)
        self.where = None if where is None else redact(str(where))
        self.hint = redact(hint)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}" + (f". {self.hint}" if self.hint else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.where, self.hint)


def _rebuild(kind: type[IrflowError], message: str, where: str | None, hint: str) -> IrflowError:
    error = kind.__new__(kind)
    IrflowError.__init__(error, message, where=where, hint=hint)
    return error


class CheckFailed(IrflowError):
    """A check ran and its answer is no (exit 1)."""

    exit_code = 1


class UsageError(IrflowError):
    """The person asked for something that cannot be asked (exit 2)."""

    exit_code = 2


class Refused(IrflowError):
    """A guard, a missing approval or a halt said no (exit 3)."""

    exit_code = 3


class PartlyDone(IrflowError):
    """Some targets are done, others are not (exit 4)."""

    exit_code = 4


class OutcomeUnknown(IrflowError):
    """The effect may or may not have happened; only another look at the target can tell (exit 5)."""

    exit_code = 5


class ConfigurationError(IrflowError):
    """A configuration, inventory, playbook or runbook is not valid (exit 6)."""

    exit_code = 6


class ConfigurationErrors(ConfigurationError):
    """All the mistakes of a set of files at once.

    errors: one per mistake, each with its file:line.
    """

    def __init__(self, errors: Sequence[ConfigurationError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class ServiceMissing(IrflowError):
    """A service, program or library that the work needs is not there (exit 7)."""

    exit_code = 7


class JournalError(IrflowError):
    """The journal could not be written or does not verify."""


class ClaimLost(IrflowError):
    """Another process took over this step; this one must stop at once."""

    exit_code = 5


class HostError(IrflowError):
    """Something about one host; `where` is its name."""


class HostUnreachable(HostError):
    """No TCP connection or no SSH greeting within the deadline."""


class HostKeyUnknown(HostError):
    """No key is on record for the host; nothing was sent to it."""


class HostKeyChanged(HostError):
    """The host showed another key than the one on record; nothing was sent to it."""


class LoginFailed(HostError):
    """The host refused the responder's key or certificate."""


class DeadlineExceeded(HostError, OutcomeUnknown):
    """The call was cut at its wall-clock deadline; what it did on the host is unknown."""

    exit_code = 5


class ConnectionLost(HostError, OutcomeUnknown):
    """The connection ended without an exit status; what was done on the host is unknown."""

    exit_code = 5


class HookFailed(HostError):
    """A hook said no, or something that is not an answer; `where` is the host it was called for."""


class OutputTooLarge(ConnectionLost):
    """The script wrote more than the caller takes and was cut off; trying again would end the same."""


class RepositoryLocked(IrflowError):
    """Another process has locked the backup repository. cleared: its lock was a dead process's, and is gone now."""

    def __init__(
        self, message: str, *, where: str | Location | None = None, hint: str = "", cleared: bool = False
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.cleared = cleared

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_locked, (self.message, self.where, self.hint, self.cleared)


class RemoteFailed(HostError):
    """A remote script ended with a non-zero status.

    status: its exit status (sysexits.h where a script chooses one).
    """

    def __init__(self, message: str, *, where: str | Location | None = None, hint: str = "", status: int = 1) -> None:
        super().__init__(message, where=where, hint=hint)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_remote, (self.message, self.where, self.hint, self.status)


def _rebuild_locked(message: str, where: str | None, hint: str, cleared: bool) -> RepositoryLocked:
    return RepositoryLocked(message, where=where, hint=hint, cleared=cleared)


def _rebuild_remote(message: str, where: str | None, hint: str, status: int) -> RemoteFailed:
    return RemoteFailed(message, where=where, hint=hint, status=status)
