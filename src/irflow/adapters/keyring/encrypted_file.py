"""A keyring in one encrypted file, for servers without a desktop's keyring.

The whole table is one AES-256-GCM blob, so that not even names can be read; the key is stretched with scrypt from a
master key that lies elsewhere (a 0600 file, a systemd credential). What this cannot tell is an old copy of the file put
in place of the new one.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from keyring.backend import KeyringBackend
from keyring.credentials import Credential, SimpleCredential
from keyring.errors import InitError, KeyringLocked, PasswordDeleteError

from irflow.core.secret import SecretValue

_MAGIC = b"IRFK1"
_SALT, _NONCE = 16, 12
_COST = 1 << 15
"""scrypt's n, with r=8 and p=1: 32 MiB and about 0.1 s. A random master key would need none, a typed one does."""
_SHORTEST_KEY = 16

Table = dict[str, dict[str, str]]


class EncryptedFileKeyring(KeyringBackend):
    """path: of the file, made at the first write. master: gives the master key, at least 16 bytes, when it is needed.

    Safe between threads and processes: writers wait for each other, readers see the table before or after.
    """

    priority = 0.1  # never chosen by itself

    def __init__(self, path: Path, master: Callable[[], SecretValue]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._path, self._master = path, master
        self._keys: dict[tuple[bytes, bytes], AESGCM] = {}
        self._lock = threading.Lock()

    def get_password(self, service: str, username: str) -> str | None:
        """The value, None when there is none. Raises KeyringLocked, InitError."""
        return self._load()[1].get(service, {}).get(username)

    def set_password(self, service: str, username: str, password: str) -> None:
        """Durable when it returns. Raises KeyringLocked, InitError."""
        with self._changing() as table:
            table.setdefault(service, {})[username] = password

    def delete_password(self, service: str, username: str) -> None:
        """Forget it. Raises PasswordDeleteError when there is none."""
        if not self.forget(service, username):
            raise PasswordDeleteError("there is no such entry")

    def forget(self, service: str, username: str) -> bool:
        """Whether there was one."""
        with self._changing() as table:
            there = table.get(service, {}).pop(username, None) is not None
            if there and not table[service]:
                del table[service]
        return there

    def get_credential(self, service: str, username: str | None) -> Credential | None:
        """The entry of this name, or any of the service when none is named."""
        found = self._load()[1].get(service, {})
        name = username if username is not None else next(iter(found), None)
        return SimpleCredential(name, found[name]) if name in found else None

    def list_credentials(self) -> tuple[tuple[str, str], ...]:
        """Service and user of every entry, sorted. keyring's own interface cannot tell."""
        return tuple(sorted((service, user) for service, users in self._load()[1].items() for user in users))

    def replace(self, service: str, username: str, expected: str | None, new: str) -> bool:
        """Put `new` in place of `expected`, None for no entry; False, and nothing done, when it is another by now."""
        with self._changing() as table:
            if table.get(service, {}).get(username) != expected:
                return False
            table.setdefault(service, {})[username] = new
        return True

    def check(self) -> None:
        """Raise KeyringLocked or InitError when the file cannot be read, or the master key is missing."""
        self._load()
        self._aead(b"\0" * _SALT)

    def rekey(self, new: Callable[[], SecretValue]) -> None:
        """Encrypt everything with another master key. Afterwards only that one opens it."""
        with self._alone():
            table = self._load()[1]
            before, self._master = self._master, new
            try:
                self._store(os.urandom(_SALT), table)
            except BaseException:
                self._master = before
                raise

    @contextmanager
    def _changing(self) -> Iterator[Table]:
        """The table, written back at the end unless the block raises."""
        with self._alone():
            salt, table = self._load()
            before = json.dumps(table)
            yield table
            if json.dumps(table) != before:
                self._store(salt or os.urandom(_SALT), table)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other writer, in no thread and no process."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with self._lock, os.fdopen(os.open(f"{self._path}.lock", flags, 0o600), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self) -> tuple[bytes, Table]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b"", {}
        except OSError as error:
            raise InitError(f"the keyring cannot be read: {error.strerror}") from None
        head = len(_MAGIC) + _SALT
        if not content.startswith(_MAGIC) or len(content) < head + _NONCE:
            raise InitError("the file is not a keyring of irflow")
        salt, nonce = content[len(_MAGIC) : head], content[head : head + _NONCE]
        try:
            plain = self._aead(salt).decrypt(nonce, content[head + _NONCE :], content[:head])
        except InvalidTag:
            raise KeyringLocked("the master key is another one, or the file was changed") from None
        table: Table = json.loads(plain)
        return salt, table

    def _store(self, salt: bytes, table: Table) -> None:
        head, nonce = _MAGIC + salt, os.urandom(_NONCE)
        content = head + nonce + self._aead(salt).encrypt(nonce, json.dumps(table).encode(), head)
        temporary = f"{self._path}.new"  # one writer at a time: a leftover is nobody's
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _aead(self, salt: bytes) -> AESGCM:
        """The cipher for a salt; the master key is asked for each time, and stretched once."""
        master = self._master().reveal()
        if len(master) < _SHORTEST_KEY:
            raise InitError(f"the master key is shorter than {_SHORTEST_KEY} bytes")
        made = self._keys.get((salt, master))
        if made is None:
            made = AESGCM(Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(master))
            self._keys[salt, master] = made
        return made
