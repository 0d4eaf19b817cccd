"""Anchors: heads of chains, signed with Ed25519 and kept in files outside the database."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from irflow.core.errors import JournalError
from irflow.core.journal import Anchor, canonical

PRIVATE = "signing.key"
PUBLIC = "signing.pub"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class SignedAnchors:
    """Implements core.ports.Anchors: one `INCIDENT.jsonl` per chain.

    keys: folder of `signing.key` (0600, PKCS 8, made when first needed) and `signing.pub`. To verify, the public
    key is enough. directory: where the anchors go; best another disk or a mounted share.
    """

    def __init__(self, keys: Path, directory: Path) -> None:
        self._keys = keys
        self._directory = directory

    def sign(self, incident: str, seq: int, hash_: str, at: str) -> Anchor:
        """Sign a head, copy it out durably, return it. Raises JournalError when it cannot be written."""
        bare = Anchor(incident, seq, hash_, at)
        anchor = replace(bare, signature=self._private.sign(_signed(bare)).hex())
        path = self._path(incident)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(path) as file:
                _drop_torn_line(file)
                _write_all(file, canonical(asdict(anchor)) + b"\n")
                os.fsync(file)
            _fsync_folder(self._directory)
        except OSError as error:
            hint = "Make the anchor folder writable and free some space"
            raise JournalError(f"an anchor cannot be written: {error.strerror}", where=str(path), hint=hint) from error
        return anchor

    def load(self, incident: str) -> tuple[Anchor, ...]:
        """The anchors of an incident, oldest first. Raises JournalError naming any whose signature is wrong."""
        path = self._path(incident)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise JournalError(f"anchors cannot be read: {error.strerror}", where=str(path)) from error
        lines, _, _torn = content.rpartition(b"\n")  # what follows the last newline was never acknowledged
        anchors: list[Anchor] = []
        wrong: list[str] = []
        for number, line in enumerate(lines.split(b"\n") if lines else (), 1):
            anchor = _parse(line)
            if anchor is None:
                wrong.append(f"line {number} is no anchor")
            elif anchor.incident != incident:
                wrong.append(f"line {number} is an anchor of {anchor.incident!r}")
            elif not self._genuine(anchor):
                wrong.append(f"the signature of event {anchor.seq} (line {number}) is wrong")
            else:
                anchors.append(anchor)
        if wrong:
            hint = "Compare the file with a copy; what it signed cannot be relied on"
            raise JournalError("; ".join(wrong), where=str(path), hint=hint)
        return tuple(anchors)

    def incidents(self) -> tuple[str, ...]:
        """The chains that have anchors."""
        return tuple(sorted(path.stem for path in self._directory.glob("*.jsonl")))

    def _path(self, incident: str) -> Path:
        if not _NAME.fullmatch(incident):
            raise JournalError(f"{incident!r} cannot name an anchor file")
        return self._directory / f"{incident}.jsonl"

    # ------------------------------------------------------------ keys

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        path = self._keys / PRIVATE
        if not path.exists():
            _create_key(path)
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise JournalError(f"others may read it (mode {mode:04o})", where=str(path), hint=f"chmod 600 {path}")
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            hint = "Restore it from a backup; older anchors can still be verified with signing.pub"
            raise JournalError("the signing key cannot be read", where=str(path), hint=hint) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise JournalError("this is no Ed25519 key", where=str(path))
        self._publish(key.public_key())
        return key

    def _publish(self, key: Ed25519PublicKey) -> None:
        """Put the public key beside the private one. Raises JournalError when another one is there."""
        path = self._keys / PUBLIC
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if not path.exists():
            _write_once(path, pem, 0o644)
        if path.read_bytes() != pem:
            hint = "Find out who changed which; anchors made with the other key do not verify"
            raise JournalError("the public key does not belong to signing.key", where=str(path), hint=hint)

    @cached_property
    def _public(self) -> Ed25519PublicKey:
        path = self._keys / PUBLIC
        if not path.exists() and (self._keys / PRIVATE).exists():
            return self._private.public_key()
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            hint = "Copy signing.pub of the installation that signed to this folder"
            raise JournalError("the public key cannot be read", where=str(path), hint=hint) from error
        if not isinstance(key, Ed25519PublicKey):
            raise JournalError("this is no Ed25519 key", where=str(path))
        return key

    def _genuine(self, anchor: Anchor) -> bool:
        try:
            self._public.verify(bytes.fromhex(anchor.signature), _signed(anchor))
        except (InvalidSignature, ValueError):
            return False
        return True


def open_anchors(keys: Path, directory: Path) -> SignedAnchors:
    """Anchors in a directory, signed with the key in `keys`; nothing is touched before it is needed."""
    return SignedAnchors(keys, directory)


def _signed(anchor: Anchor) -> bytes:
    """What is signed: all fields but the signature (core.journal.Anchor)."""
    fields = asdict(anchor)
    del fields["signature"]
    return canonical(fields)


def _parse(line: bytes) -> Anchor | None:
    try:
        fields = json.loads(line)
        anchor = Anchor(**fields)
    except (ValueError, TypeError):
        return None
    texts = (anchor.incident, anchor.hash, anchor.at, anchor.signature)
    return anchor if type(anchor.seq) is int and all(isinstance(text, str) for text in texts) else None


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The file, open for appending, for this process alone."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _drop_torn_line(file: int) -> None:
    """Cut off what a crash left after the last newline: its signer was never told that it was kept."""
    content = os.pread(file, os.fstat(file).st_size, 0)
    if content and not content.endswith(b"\n"):
        os.ftruncate(file, content.rfind(b"\n") + 1)


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _create_key(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Create a file whole and durable, or leave the one that another process made first."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(handle, mode)
        _write_all(handle, content)
        os.fsync(handle)
        with suppress(FileExistsError):
            os.link(temporary, path)
        _fsync_folder(path.parent)
    finally:
        os.close(handle)
        Path(temporary).unlink()
