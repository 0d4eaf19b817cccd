"""A random key of irflow's own: made at its first use, kept in a file that nobody else can read."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from irflow.core.errors import ConfigurationError

BYTES = 32


def made_key(path: Path) -> bytes:
    """The key in the file; a new one, durable, where there is none yet. 32 bytes.

    Raises ConfigurationError when the file is open to others, has another length, or cannot be read or made.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
        return _read(path)  # of several processes that make one at once, one wins
    except OSError as error:
        raise ConfigurationError(
            f"the key cannot be read or made: {(error.strerror or '').lower()}", where=str(path),
            hint="Look at free space and permissions",
        ) from None  # fmt: skip


def _read(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o077:
            mode = f"{stat.S_IMODE(about.st_mode):04o}"
            raise ConfigurationError(
                f"the key is open to others, uid {about.st_uid}, mode {mode}", where=str(path),
                hint="Delete it: a new one is made, and everybody logs in again",
            )  # fmt: skip
        key = file.read(BYTES + 1)
    if len(key) != BYTES:
        raise ConfigurationError(
            f"the key has not {BYTES} bytes", where=str(path), hint="Delete it: a new one is made at the next start"
        )
    return key


def _make(path: Path) -> None:
    """Write beside, then link: the name appears only with a whole key, and never replaces another."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink()
