"""Reading a stream back from the repository: its hash, and whether the program it is for can list it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from irflow.adapters.backup_restic import pipes
from irflow.adapters.backup_restic.program import Repository, calling
from irflow.adapters.deadline import Deadline
from irflow.core.backups import ReadBack, Stored
from irflow.core.errors import IrflowError

# What lists a stream from its standard input, and what counts the entries it names.
_LISTERS = {
    "tar": (("tar", "-tf", "-"), "END { print NR }"),
    "pg_dump": (("pg_restore", "--list"), "!/^;/ && NF { n++ } END { print n + 0 }"),
}
_PACKAGES = {"tar": "tar", "pg_restore": "postgresql-client"}
_NOBODY = 65534


def read_back(repository: Repository, one: Stored, kind: str, deadline: Deadline) -> ReadBack:
    """Read a stream, hash it, list it. Raises IrflowError when it cannot be read."""
    ours, theirs = os.pipe()
    hashed, size = hashlib.sha256(), 0
    try:
        with calling(repository, "dump", "--no-lock", one.id, one.name, stdout=theirs) as call, _lister(kind) as lister:
            os.close(theirs)
            theirs = -1
            for piece in pipes.read(pipes.prepare(ours), deadline):
                hashed.update(piece)
                size += len(piece)
                lister.feed(piece, deadline)
            call.wait(deadline)
            listed = lister.result(deadline)
    except pipes.Late:
        raise IrflowError(f"not read back within {deadline.seconds:.0f} s", where=repository.name) from None
    finally:
        os.close(ours)
        if theirs != -1:
            os.close(theirs)
    return ReadBack(hashed.hexdigest(), size, listed.entries, listed.trouble, listed.possible)


@dataclass(frozen=True)
class _Listed:
    """What came of listing a stream. possible: whether a program here can do it."""

    entries: int | None
    trouble: str = ""
    possible: bool = True


class _Lister:
    """A program that lists what it is fed, and one that counts its lines. It reads no more than it needs."""

    def __init__(self, command: list[str], count: str) -> None:
        self._errors, self._counted = os.memfd_create("errors"), os.memfd_create("counted")
        content, ours = os.pipe()
        lines, listed = os.pipe()
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/"}
        try:
            self._listing = subprocess.Popen(
                command, stdin=content, stdout=listed, stderr=self._errors, cwd="/", env=clean
            )
            self._counting = subprocess.Popen(["awk", count], stdin=lines, stdout=self._counted, env=clean)
        finally:
            for one in (content, lines, listed):
                os.close(one)
        self._input: int | None = pipes.prepare(ours)

    def feed(self, piece: bytes, deadline: Deadline) -> None:
        """Hand on a piece. Raises pipes.Late."""
        if self._input is not None:
            try:
                pipes.write(self._input, piece, deadline)
            except BrokenPipeError:
                self._close_input()

    def result(self, deadline: Deadline) -> _Listed:
        """How it ended. Raises pipes.Late."""
        self._close_input()
        try:
            status = self._listing.wait(deadline.left())
            self._counting.wait(deadline.left())
        except subprocess.TimeoutExpired:
            raise pipes.Late from None
        if status == 0:
            return _Listed(int(os.pread(self._counted, 100, 0) or b"0"))
        said = os.pread(self._errors, 500, 0).decode("utf-8", "replace").strip()
        # A dump of a newer PostgreSQL than the programs here know.
        return _Listed(None, f"ended with {status}: {said}", "unsupported version" not in said)

    def close(self) -> None:
        """End both, whatever they are at."""
        self._close_input()
        for process in (self._listing, self._counting):
            process.kill()
            process.wait()
        os.close(self._errors)
        os.close(self._counted)

    def _close_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None


class _NoLister:
    """Where the program that could list it is not installed."""

    def __init__(self, program: str) -> None:
        self._program = program

    def feed(self, piece: bytes, deadline: Deadline) -> None:
        """Nobody looks."""

    def result(self, deadline: Deadline) -> _Listed:
        """Why nobody looked."""
        return _Listed(
            None, f"{self._program} is not installed here: apt-get install {_PACKAGES[self._program]}", False
        )


@contextmanager
def _lister(kind: str) -> Iterator[_Lister | _NoLister]:
    command, count = _LISTERS[kind]
    if shutil.which(command[0]) is None:
        yield _NoLister(command[0])
        return
    # The content comes from a host in somebody else's hands: whatever it does to its reader, that has no rights.
    plain = ["--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups"] if os.geteuid() == 0 else []
    wrapped = ["setpriv", *plain, "--no-new-privs", "--", *command] if shutil.which("setpriv") else [*command]
    lister = _Lister(wrapped, count)
    try:
        yield lister
    finally:
        lister.close()
