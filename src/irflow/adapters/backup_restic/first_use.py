"""Making the repository, and its password where none was given, the first time that it is needed."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irflow.adapters.backup_restic.program import NoRepository, Repository, calling
from irflow.adapters.deadline import Deadline
from irflow.core.errors import ConfigurationError, IrflowError


class FirstUse:
    """Makes a repository once, whichever process comes first.

    password_file: where irflow keeps the password itself, None where an operator gave one.
    """

    def __init__(self, repository: Repository, password_file: Path | None) -> None:
        self._repository, self._password_file = repository, password_file
        self._there = False

    def happened(self) -> bool:
        """Whether there is a repository; where it is not on this machine, whether there may be one."""
        folder = self._repository.folder
        return self._there or folder is None or (folder / "config").exists()

    def check_password(self) -> None:
        """Raise ConfigurationError when there should be a password and it cannot be read."""
        if self._password_file is None or self._password_file.exists() or self.happened():
            self._repository.password()

    def make(self, deadline: Deadline) -> None:
        """Make it unless it exists. Raises ServiceMissing, ConfigurationError, IrflowError."""
        if self._there:
            return
        self._repository.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._alone(deadline):
            folder = self._repository.folder
            exists = folder is not None and (folder / "config").exists()
            self._need_password(made=exists)
            if not exists and not (folder is None and self._answers(deadline)):
                self._init(deadline)
        self._there = True

    def _answers(self, deadline: Deadline) -> bool:
        with calling(self._repository, "cat", "config", "--no-lock") as call:
            try:
                call.wait(deadline)
            except NoRepository:
                return False
        return True

    def _init(self, deadline: Deadline) -> None:
        with calling(self._repository, "init") as call:
            try:
                call.wait(deadline)
            except NoRepository as error:
                raise IrflowError(
                    "the backup repository cannot be made there", where=self._repository.name, hint=error.hint
                ) from None
            except IrflowError as error:
                if "already exists" not in error.message:  # another machine was faster
                    raise

    def _need_password(self, *, made: bool) -> None:
        if self._password_file is None or self._password_file.exists():
            return
        if made:
            raise ConfigurationError(
                "the password of the backup repository is gone", where=str(self._password_file),
                hint="Put the copy back; without it nothing in the repository can be read",
            )  # fmt: skip
        write_password(self._password_file)

    @contextmanager
    def _alone(self, deadline: Deadline) -> Iterator[None]:
        """One process of this machine at a time."""
        with (self._repository.cache / "first-use.lock").open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if deadline.passed:
                        raise IrflowError("another process is making it", where=self._repository.name) from None
                    time.sleep(0.05)
            yield


def write_password(path: Path) -> bool:
    """A new password in a 0600 file, on disk before anything is encrypted with it. False when there is one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True
