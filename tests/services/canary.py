"""Finding a value wherever it might have leaked to, in every form that programs write values in."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sqlite3
import subprocess
import tarfile
import tempfile
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_SHORTEST = 12
_BATCH = 8 << 20
_IN_EVERY_KEY = ("-----", "b3BlbnNzaC1rZXktdjEA")
"""How the lines begin that all private keys in OpenSSH's form share."""


def renderings(value: str) -> set[bytes]:
    """The value, and each long line of it, as logs, JSON, URLs, HTTP headers and programs write it."""
    raw = value.encode()
    found: set[bytes] = set()
    parts = {value, value.strip(), *(line for line in value.splitlines() if not line.startswith(_IN_EVERY_KEY))}
    for part in parts:
        if len(part) >= _SHORTEST:
            inside = part.encode()
            found |= {inside, json.dumps(part)[1:-1].encode(), repr(part)[1:-1].encode(), inside.hex().encode()}
            found.add(urllib.parse.quote(part, safe="").encode())
            found.add(urllib.parse.quote_plus(part).encode())
    # In base64 of something longer it stands in one of three alignments, without its first and last characters.
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * shift + raw)
            found.add(coded[4 if shift else 0 : -4])
    return {one for one in found if len(one) >= _SHORTEST}


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """What a file holds, and what is packed in it: archives, compressed text, rows of an SQLite database."""
    with suppress(OSError):
        data = path.read_bytes()
        yield from _unpacked(str(path), data)
        if data.startswith(b"SQLite format 3"):
            yield f"{path} (rows)", _rows(path)


def _unpacked(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, data
    if data[:2] == b"\x1f\x8b":
        with suppress(OSError, EOFError):
            yield from _unpacked(f"{name} (gzip)", gzip.decompress(data))
    elif data[257:262] == b"ustar":
        with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield from _unpacked(f"{name}/{member.name}", file.read())


def _rows(path: Path) -> bytes:
    """All values of all tables: on disk a long one is split over pages."""
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(path, timeout=20)) as database:
        copy = sqlite3.connect(Path(folder, "copy.db"))
        with closing(copy):
            database.backup(copy)
            copy.text_factory = bytes
            tables = [row[0].decode() for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            parts = []
            for table in tables:
                with suppress(sqlite3.Error):  # a virtual table without its module
                    for row in copy.execute(f'SELECT * FROM "{table}"'):
                        parts += [one if isinstance(one, bytes) else str(one).encode() for one in row]
            return b"\n".join(parts)


def hits(values: Mapping[str, str], where: Iterable[tuple[str, bytes]]) -> list[str]:
    """`NAME in PLACE` for each value that is found. values: by name."""
    wanted = {value: (name, renderings(value)) for name, value in values.items()}  # a value of several names once
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"\n".join({_line(form) for _, forms in wanted.values() for form in forms}))
        patterns.flush()
        return [
            f"{name} in {place}"
            for batch in _batches(where)
            if _any(Path(patterns.name), batch)
            for place, data in batch
            for name, forms in wanted.values()
            if any(form in data for form in forms)
        ]


def _line(form: bytes) -> bytes:
    """A line that is wherever the form is."""
    lines = form.split(b"\n")
    own = [one for one in lines if not one.startswith(tuple(map(str.encode, _IN_EVERY_KEY)))]
    return max(own or lines, key=len)


def _batches(where: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """What is searched, some megabytes at a time."""
    batch, size = list[tuple[str, bytes]](), 0
    for place, data in where:
        batch.append((place, data))
        size += len(data)
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _any(patterns: Path, batch: Iterable[tuple[str, bytes]]) -> bool:
    """Whether anything of it has to be looked at: grep looks for all patterns at once, Python for one after another."""
    done = subprocess.run(
        ["/usr/bin/grep", "--quiet", "--text", "--fixed-strings", "--file", patterns],
        input=b"\n".join(data for _, data in batch), env={"LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode in (0, 1)
    return done.returncode == 0


class Processes:
    """Reads the arguments and the environment of every process, again and again, until the block ends."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="processes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seen(self) -> list[tuple[str, bytes]]:
        """What was read until now, with the process it was read from first."""
        with self._lock:
            return [(place, data) for data, place in self._seen.items()]

    def _run(self) -> None:
        while not self._over.wait(0.1):
            for name in os.listdir("/proc"):
                if name.isdigit():
                    self._look(name)

    def _look(self, pid: str) -> None:
        for what in ("cmdline", "environ"):
            with suppress(OSError):
                data = Path(f"/proc/{pid}/{what}").read_bytes()
                with self._lock:
                    self._seen.setdefault(data, f"{what} of process {pid}")
