"""One call of restic: where its repository is, how it learns the password, how it ends, what its errors mean."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from irflow.adapters.deadline import Deadline
from irflow.adapters.secret_environment import without_secrets
from irflow.core.errors import ConfigurationError, IrflowError, ServiceMissing

GRACE_S = 10.0
"""How long restic may take to put its things away after an interrupt; it needs milliseconds."""

_REMOTE = re.compile(r"(sftp|rest|s3|b2|azure|gs|swift|rclone):")
_NO_REPOSITORY = "Is there a repository at the following location"


@dataclass(frozen=True)
class Repository:
    """A restic repository.

    location: gives what restic calls it, a folder or `sftp:...`, `rest:...`, `s3:...`. password: gives its password.
    Both are asked for at each call and handed over in anonymous memory: they stand in no argument and no environment.
    cache: folder for restic's cache and irflow's lock. name: what people call the repository.
    """

    location: Callable[[], bytes]
    password: Callable[[], bytes]
    cache: Path
    name: str

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine, None when it is elsewhere."""
        text = self.location().decode("utf-8", "surrogateescape").strip()
        return None if _REMOTE.match(text) else Path(text.removeprefix("local:"))


class NoRepository(IrflowError):
    """There is nothing at the location yet."""


class Locked(IrflowError):
    """Another process holds a lock on the repository; the message is what restic says about it."""


class Call:
    """A running restic. process: it. What it says is kept in anonymous memory until it ends."""

    def __init__(self, repository: Repository, arguments: Sequence[str], *, stdin: int, stdout: int | None) -> None:
        self._repository = repository
        self._arguments = arguments
        self._secrets = (repository.location(), repository.password())
        self._out, self._err = os.memfd_create("out"), os.memfd_create("err")
        self._open = True
        try:
            self.process = self._start(stdin, self._out if stdout is None else stdout)
        except BaseException:
            self.close()
            raise

    def _start(self, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
        location, password = (_in_memory(one) for one in self._secrets)
        environment = {
            key: value for key, value in without_secrets(os.environ).items() if not key.startswith("RESTIC_")
        }
        environment |= {
            "LC_ALL": "C",
            "RESTIC_REPOSITORY_FILE": f"/dev/fd/{location}",
            "RESTIC_PASSWORD_FILE": f"/dev/fd/{password}",
            "RESTIC_CACHE_DIR": str(self._repository.cache),
        }
        try:
            return subprocess.Popen(
                [*_dying_with_us(), program(), *self._arguments],
                stdin=stdin, stdout=stdout, stderr=self._err, env=environment, pass_fds=(location, password), cwd="/",
            )  # fmt: skip
        finally:
            os.close(location)
            os.close(password)

    def wait(self, deadline: Deadline) -> bytes:
        """Wait for its end; what it wrote. Raises NoRepository, Locked, ConfigurationError, IrflowError."""
        try:
            status = self.process.wait(deadline.left())
        except subprocess.TimeoutExpired:
            self.interrupt()
            raise self.late(deadline) from None
        if status != 0:
            raise self.failure(status)
        return _content(self._out)

    def late(self, deadline: Deadline) -> IrflowError:
        """What to raise when it took too long."""
        return IrflowError(
            f"restic {self._arguments[0]} was ended after {deadline.seconds:.0f} s",
            where=self._repository.name, hint="Is the repository slow, or another restic at work in it?",
        )  # fmt: skip

    def failure(self, status: int) -> Exception:
        """What its exit status and its words mean."""
        raw, said, where = _content(self._err).decode("utf-8", "replace"), self._said(), self._repository.name
        if _NO_REPOSITORY in raw or "unable to open config file" in raw:
            return NoRepository("there is no backup repository", where=where, hint="Check backup.repository")
        if "already locked" in raw:
            return Locked(said[:300], where=where)
        if "wrong password or no key found" in raw:
            return ConfigurationError(
                "the password does not open the backup repository", where=where,
                hint="Set backup.password in irflow.yaml to the one it was made with",
            )  # fmt: skip
        if "no space left on device" in raw or "disk quota exceeded" in raw:
            return IrflowError("the backup repository's disk is full", where=where, hint="Free some space there")
        tail = said[-400:] or "it said nothing"
        return IrflowError(f"restic {self._arguments[0]} ended with {status}: {tail}", where=where)

    def interrupt(self) -> bool:
        """End it: with an interrupt, upon which it keeps nothing and takes its lock away; if need be by force.

        Returns whether it was still at work.
        """
        if self.process.poll() is not None:
            return False
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return True

    def close(self) -> None:
        """Give the memory back. Twice is fine."""
        if self._open:
            self._open = False
            os.close(self._out)
            os.close(self._err)

    def _said(self) -> str:
        """Its standard error in one line, without any value that is a secret."""
        said = _content(self._err)
        password = self._secrets[1].strip()
        if password:
            said = said.replace(password, b"***")
        text = " ".join(said.decode("utf-8", "replace").replace("\x1b[2K", "").split())
        return re.sub(r"//[^/@\s]*@", "//***@", text)  # credentials in the location


@contextmanager
def calling(
    repository: Repository, *arguments: str, stdin: int = subprocess.DEVNULL, stdout: int | None = None
) -> Iterator[Call]:
    """A restic for the length of the block; it is ended at the end of it. Raises ServiceMissing."""
    call = Call(repository, arguments, stdin=stdin, stdout=stdout)
    try:
        yield call
    finally:
        call.interrupt()
        call.close()


def program() -> str:
    """Where restic is. Raises ServiceMissing when it is not installed."""
    found = shutil.which("restic", path=f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin")
    if found is None:
        raise ServiceMissing("restic is not installed on irflow's machine", hint="apt-get install restic")
    return found


def _dying_with_us() -> list[str]:
    """An interrupt reaches restic when this thread dies, so that it does not take the end of a pipe for the end of what
    was to be saved. Without setpriv(1) it may; then the snapshot is never marked as whole."""
    return ["setpriv", "--pdeathsig", "INT", "--"] if shutil.which("setpriv") else []


def _in_memory(value: bytes) -> int:
    """A descriptor of anonymous memory that holds the value; whoever opens /dev/fd/N reads it from the start."""
    descriptor = os.memfd_create("irflow")
    os.write(descriptor, value)
    return descriptor


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
