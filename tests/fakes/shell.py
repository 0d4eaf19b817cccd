"""A shell without hosts, for tests of what is done with its answers. It keeps the contract in
tests/integration/test_shell_contract.py, the same that the real one keeps."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from irflow.adapters.ssh.command import command_line
from irflow.core.errors import (
    ConfigurationError,
    DeadlineExceeded,
    HostError,
    HostKeyUnknown,
    HostUnreachable,
    OutputTooLarge,
    RemoteFailed,
)
from irflow.core.inventory import Host
from irflow.core.ports import Completed, Streamed
from irflow.core.secret import SecretValue

PIECE = 1 << 16


@dataclass(frozen=True)
class Reply:
    """What a script says. seconds: how long it would run."""

    stdout: bytes = b""
    stderr: bytes = b""
    status: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Call:
    """One script run on a host. connection: serial number; the same for calls that shared one."""

    host: str
    script: str
    args: tuple[str, ...]
    fresh: bool
    connection: int


Script = Callable[[Call], Reply]


@dataclass
class FakeShell:
    """core.ports.Shell whose scripts are functions.

    scripts: by name, as `isolate.sh`. A script may raise ConnectionLost or DeadlineExceeded; calls shows what was run,
    also then. broken: errors to raise for a host (by its name) before anything is run.
    """

    scripts: dict[str, Script] = field(default_factory=dict)
    broken: dict[str, HostError] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    closed: bool = False
    _kept: dict[str, int] = field(default_factory=dict)
    _serial: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(
        self,
        host: Host,
        script: str,
        args: Sequence[str] = (),
        *,
        timeout_s: float,
        fresh: bool = False,
        max_output: int = 8 << 20,
        check: bool = True,
        secret: SecretValue | None = None,
    ) -> Completed:
        """See core.ports.Shell.run."""
        reply = self._reply(host, script, args, timeout_s, fresh)
        if len(reply.stdout) > max_output:
            raise OutputTooLarge(f"{script} was cut off: it wrote more than {max_output} bytes", where=host.name)
        if check and reply.status != 0:
            tail = reply.stderr.decode("utf-8", "replace").strip()
            raise RemoteFailed(f"{script} ended with {reply.status}: {tail}", where=host.name, status=reply.status)
        return Completed(reply.status, reply.stdout, reply.stderr, reply.seconds)

    def stream(
        self,
        host: Host,
        script: str,
        args: Sequence[str] = (),
        *,
        sink: Callable[[bytes], object],
        timeout_s: float,
        max_bytes: int,
    ) -> Streamed:
        """See core.ports.Shell.stream."""
        reply = self._reply(host, script, args, timeout_s, False)
        sent, deadline = b"", time.monotonic() + timeout_s
        for start in range(0, len(reply.stdout), PIECE):
            piece = reply.stdout[start : start + PIECE]
            if len(sent) + len(piece) > max_bytes:
                raise OutputTooLarge(f"{script} was cut off: it wrote more than {max_bytes} bytes", where=host.name)
            sent += piece
            sink(piece)
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"{script} was cut off after {timeout_s:g} s", where=host.name)
        return Streamed(reply.status, len(sent), hashlib.sha256(sent).hexdigest(), reply.stderr, reply.seconds)

    def _reply(self, host: Host, script: str, args: Sequence[str], timeout_s: float, fresh: bool) -> Reply:
        command_line(host, args)
        if script not in self.scripts:
            raise ConfigurationError(f"no script {script!r}")
        with self._lock:
            call = Call(host.name, script, tuple(args), fresh, self._connect(host, fresh))
            self.calls.append(call)
        reply = self.scripts[script](call)
        if reply.seconds > timeout_s:
            raise DeadlineExceeded(f"{script} was cut off after {timeout_s:g} s", where=host.name)
        return reply

    def connect(self, host: Host, *, timeout_s: float) -> None:
        """See core.ports.Shell.connect."""
        with self._lock:
            self._connect(host, fresh=False)

    def close(self) -> None:
        """See core.ports.Shell.close."""
        self.closed = True
        self._kept.clear()

    def _connect(self, host: Host, fresh: bool) -> int:
        if self.closed:
            raise HostUnreachable("the shell is closed; nothing was sent", where=host.name)
        if not host.host_keys:
            raise HostKeyUnknown("no host key on record", where=host.name)
        if host.name in self.broken:
            raise self.broken[host.name]
        if fresh or host.name not in self._kept:
            self._kept[host.name] = next(self._serial)
        return self._kept[host.name]
