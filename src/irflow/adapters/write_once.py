"""Files that are written once and never changed: durable, read-only, never through a link."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irflow.core.errors import ConfigurationError, IrflowError

# No leading dot or hyphen: neither hidden, nor `..`, nor read as an option.
_NAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,199}")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


class WriteOnce:
    """A folder of folders of files. what: `evidence` or `document`, for errors."""

    def __init__(self, root: Path, what: str) -> None:
        self.root = root
        self._what = what

    def put(self, folder: str, name: str, content: bytes) -> bool:
        """Write root/folder/name, 0400, both synced to disk. False when a file of that name exists already.

        Raises ConfigurationError for a name that is not plain, IrflowError when the disk refuses.
        """
        self._check(folder, name)
        try:
            with self._open(folder) as at:
                return _write(at, name, content)
        except OSError as error:
            raise self._failed(error, folder, name) from None

    def get(self, folder: str, name: str) -> bytes | None:
        """The content, None when there is no such file. Raises IrflowError when it cannot be read."""
        self._check(folder, name)
        try:
            with self._open(folder, make=False) as at:
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                with os.fdopen(handle, "rb") as file:
                    return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(error, folder, name) from None

    def names(self, folder: str) -> list[str]:
        """Names in a folder, oldest first; files that were written at the same moment by name."""
        self._check(folder, "x")
        try:
            with self._open(folder, make=False) as at:
                every = os.listdir(at)
                stated = [(os.stat(one, dir_fd=at, follow_symlinks=False), one) for one in every]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._failed(error, folder, "") from None
        return [one for _, one in sorted((found.st_mtime_ns, one) for found, one in stated if _NAME.fullmatch(one))]

    def _check(self, folder: str, name: str) -> None:
        if not _FOLDER.fullmatch(folder) or not _NAME.fullmatch(name):
            shown = f"{folder[:70]}/{name[:210]}"
            raise ConfigurationError(
                f"{shown!r} cannot be the name of {self._what}", hint="Use a-z, 0-9, '.', '_', '-'"
            )

    @contextmanager
    def _open(self, folder: str, *, make: bool = True) -> Iterator[int]:
        """A descriptor of root/folder, which is a real folder and no link; made, 0700, if it is not there."""
        if make:
            for path in (self.root, self.root / folder):
                if not path.is_dir():
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
                    _sync(path.parent)
        at = os.open(self.root / folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield at
        finally:
            os.close(at)

    def _failed(self, error: OSError, folder: str, name: str) -> IrflowError:
        return IrflowError(
            f"{self._what} cannot be kept or read: {error.strerror}", where=str(self.root / folder / name),
            hint="Look at free space and permissions",
        )  # fmt: skip


def _write(at: int, name: str, content: bytes) -> bool:
    """Write beside, then link: the name appears only with its whole content, and never replaces another."""
    beside = f".{secrets.token_hex(8)}"
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400, dir_fd=at)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except FileExistsError:
            return False
    finally:
        os.unlink(beside, dir_fd=at)
    os.fsync(at)
    return True


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
