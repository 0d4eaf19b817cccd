"""Tokens by which operators enter irflow's page: a file that holds their hashes, never the tokens."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from irflow.core.errors import ConfigurationError
from irflow.core.model import to_text

TOKEN_BYTES = 32
"""256 random bits: nobody guesses one, so a plain hash keeps it (no salt, no stretching)."""

_Seen = tuple[int, int, int]


@dataclass(frozen=True)
class _Token:
    """One token. made_at: as the journal writes times."""

    sha256: str
    operator: str
    made_at: str


class OperatorTokens:
    """path: of the file, 0600, made at the first token. Safe between threads and processes.

    Each operator has at most one token. Who it belongs to may have left operators.yaml since: look the name up there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._tokens: tuple[_Token, ...] = ()

    def issue(self, name: str) -> str:
        """A new token for an operator, told only here; the one before is dead. Raises ConfigurationError."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._alone():
            others = [one for one in self._read() if one.operator != name]
            self._write([*others, _Token(_hash(token), name, to_text(datetime.now(UTC)))])
        return token

    def revoke(self, name: str) -> bool:
        """Kill an operator's token; False when there was none. Raises ConfigurationError."""
        with self._alone():
            before = self._read()
            left = [one for one in before if one.operator != name]
            if len(left) == len(before):
                return False
            self._write(left)
        return True

    def owner(self, token: str) -> str | None:
        """Whose token it is, None when nobody's. The file is read again once it has changed.

        Raises ConfigurationError when the file cannot be read, or others could have written it.
        """
        asked, found = _hash(token), None
        with self._lock:
            known = self._read()
        for one in known:  # to the end: how long it takes tells nothing
            if hmac.compare_digest(one.sha256, asked):
                found = one.operator
        return found

    def mark(self, name: str) -> str | None:
        """What tells an operator's token from the one before it, without telling it; None while there is none.

        Raises ConfigurationError as owner() does.
        """
        with self._lock:
            known = self._read()
        return next((_hash(f"mark {one.sha256}") for one in known if one.operator == name), None)

    def _read(self) -> tuple[_Token, ...]:
        """The tokens; the lock is held."""
        try:
            with self._path.open("rb") as file:
                about = os.fstat(file.fileno())
                seen = (about.st_ino, about.st_mtime_ns, about.st_size)
                if seen != self._seen:
                    self._check(about)
                    self._tokens = tuple(_Token(**one) for one in json.load(file)["tokens"])
                    self._seen = seen
        except FileNotFoundError:
            self._seen, self._tokens = None, ()
        except OSError as error:
            raise self._wrong(f"cannot be read: {(error.strerror or '').lower()}") from None
        except (ValueError, TypeError, KeyError):
            raise self._wrong("is damaged") from None
        return self._tokens

    def _check(self, about: os.stat_result) -> None:
        if about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o077:
            raise self._wrong(f"is open to others, uid {about.st_uid}, mode {stat.S_IMODE(about.st_mode):04o}")

    def _wrong(self, what: str) -> ConfigurationError:
        hint = "Delete it, and give out new tokens: irflow operators token NAME"
        return ConfigurationError(f"the file of operators' tokens {what}", where=str(self._path), hint=hint)

    def _write(self, tokens: list[_Token]) -> None:
        """At once and durable; the lock is held."""
        temporary = self._path.with_name(f".{self._path.name}.new")  # one writer at a time: a leftover is nobody's
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
                json.dump({"tokens": [vars(one) for one in tokens]}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._wrong(f"cannot be written: {(error.strerror or '').lower()}") from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other writer, in no thread and no process."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._lock, os.fdopen(os.open(f"{self._path}.lock", flags, 0o600), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()  # a stranger's may be any text
