"""core.ports.Shell over paramiko: scripts of remote/ streamed to `sh`, over connections that are kept open."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import paramiko

from irflow.adapters.ssh import hostkeys
from irflow.adapters.ssh.command import command_line, text_of, with_secret
from irflow.adapters.ssh.exchange import NoStatus, Said, Sink, SinkFailed, TooMuchOutput, exchange
from irflow.adapters.ssh.login import private_key
from irflow.adapters.ssh.pool import Connection, Pool, Stale
from irflow.adapters.ssh.trial import try_login
from irflow.adapters.ssh.watchdog import Leash, Watchdog, patience
from irflow.core.errors import (
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    HostUnreachable,
    LoginFailed,
    OutputTooLarge,
    RemoteFailed,
)
from irflow.core.inventory import Host, Inventory
from irflow.core.ports import Completed, Streamed
from irflow.core.secret import Certifier, SecretRef, SecretStore, SecretValue

IDLE_S = 600.0
SCAN_TIMEOUT_S = 8.0
_TAIL = 400

# What sudo(8) says when it does not run the command; other lines of it are warnings, after which it does.
_SUDO_REFUSES = re.compile(
    rb"^sudo: (a password is required|a terminal is required|no tty present|.*must have a tty|account validation)"
    rb"|^Sorry, user |is not in the sudoers file|is not allowed to run sudo",
    re.MULTILINE,
)


class SshShell:
    """Runs scripts on hosts. One kept connection per host; calls share it, each with a channel of its own.

    secrets, certifier: asked for the key, and for a certificate of it, at each login. inventory: where jump hosts are
    looked up. parallel: most logins under way at once. idle_s: a connection unused for so long is closed. scripts:
    gives the text of a script by its name.
    Not for use on both sides of a fork.
    """

    def __init__(
        self,
        secrets: SecretStore,
        inventory: Inventory,
        *,
        parallel: int = 32,
        idle_s: float = IDLE_S,
        scripts: Callable[[str], bytes] = text_of,
        certifier: Certifier | None = None,
    ) -> None:
        self._scripts = scripts
        self._watchdog = Watchdog()
        self._pool = Pool(
            lambda host: private_key(host, secrets, certifier),
            inventory, self._watchdog, parallel=parallel, idle_s=idle_s,
        )  # fmt: skip

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
        """See core.ports.Shell.run. More than max_output bytes of standard output end the call as ConnectionLost."""
        pieces: list[bytes] = []
        said, seconds = self._exchange(host, script, args, timeout_s, fresh, max_output, pieces.append, secret)
        done = Completed(said.status or 0, b"".join(pieces), said.stderr, seconds)
        if check and done.status != 0:
            tail = done.stderr.decode("utf-8", "replace").strip()[-_TAIL:] or "it said nothing on standard error"
            raise RemoteFailed(f"{script} ended with {done.status}: {tail}", where=host.name, status=done.status)
        return done

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
        """See core.ports.Shell.stream. Over the kept connection, in a channel of its own: others are not held up."""
        hashed = hashlib.sha256()

        def take(piece: bytes) -> None:
            hashed.update(piece)
            sink(piece)

        said, seconds = self._exchange(host, script, args, timeout_s, False, max_bytes, take)
        return Streamed(said.status or 0, said.stdout_bytes, hashed.hexdigest(), said.stderr, seconds)

    def connect(self, host: Host, *, timeout_s: float) -> None:
        """See core.ports.Shell.connect."""
        with self._watchdog.watch(timeout_s) as leash, self._pool.lease(host, leash):
            pass

    def host_keys(self, host: Host, *, timeout_s: float = SCAN_TIMEOUT_S) -> tuple[str, ...]:
        """The keys a host shows, one per type, as `TYPE BASE64`, also through its jump host. It is not logged in there.

        Raises HostUnreachable, and what the jump host's own login raises.
        """
        with self._watchdog.watch(timeout_s) as leash:
            dial, done = self._pool.dial(host, leash)
            try:
                return hostkeys.read(host, leash, dial)
            finally:
                done()

    def admits(self, host: Host, user: str, value: SecretValue, kind: str, *, timeout_s: float) -> bool:
        """See core.rotation_means.Logins. Over a connection of its own, also through jump hosts."""
        with self._watchdog.watch(timeout_s) as leash:
            dial, done = self._pool.dial(host, leash)
            try:
                return try_login(host, user, value, kind, leash, dial)
            finally:
                done()

    def close(self) -> None:
        """See core.ports.Shell.close. Calls under way end with ConnectionLost; no thread is left."""
        self._pool.close()
        self._watchdog.stop()

    def _exchange(
        self,
        host: Host,
        script: str,
        args: Sequence[str],
        timeout_s: float,
        fresh: bool,
        most: int,
        sink: Sink,
        secret: SecretValue | None = None,
    ) -> tuple[Said, float]:
        """Run a script with its output going to sink; what it said, and the seconds. Raises as core.ports.Shell.run."""
        text, line = with_secret(self._scripts(script), secret), command_line(host, args)
        started = time.monotonic()
        with self._watchdog.watch(timeout_s) as leash, self._session(host, leash, fresh=fresh) as (used, channel):
            try:
                said = exchange(channel, line, text, leash, most, sink)
            except SinkFailed as failed:
                raise failed.error from None
            except (TooMuchOutput, NoStatus, paramiko.SSHException, EOFError, OSError) as error:
                lost = _lost(host, script, leash, most, error)
                if not isinstance(error, TooMuchOutput | NoStatus):
                    self._pool.retire(used)  # it may be what is broken; others on it are not disturbed
                raise lost from None
        _refused(host, said)
        return said, time.monotonic() - started

    @contextmanager
    def _session(self, host: Host, leash: Leash, *, fresh: bool) -> Iterator[tuple[Connection, paramiko.Channel]]:
        """A connection and a channel in it, for one script. Opening it tells whether a kept one is still alive."""
        with ExitStack() as held:
            connection = held.enter_context(self._pool.lease(host, leash, fresh=fresh))
            try:
                channel = held.enter_context(_channel(connection, leash))
            except Stale:
                self._pool.retire(connection)
                held.close()
                connection = held.enter_context(self._pool.lease(host, leash))
                channel = held.enter_context(_channel(connection, leash))
            yield connection, channel


@contextmanager
def _channel(connection: Connection, leash: Leash) -> Iterator[paramiko.Channel]:
    """A session channel, closed at the end. Raises Stale, HostUnreachable."""
    if not connection.sessions.acquire(timeout=leash.left()):
        raise HostUnreachable("scripts already running there left no session free in time", where=connection.name)
    try:
        channel = connection.session(leash)
        with leash.cutting(patience, connection.transport.sever):
            try:
                yield channel
            finally:
                with suppress(paramiko.SSHException, EOFError, OSError):  # the connection may be gone already
                    channel.close()
    finally:
        connection.sessions.release()


def _refused(host: Host, said: Said) -> None:
    """Raise LoginFailed when it was sudo that ended and said no: nothing was run then."""
    if host.sudo and said.status == 1 and not said.stdout_bytes and _SUDO_REFUSES.search(said.stderr):
        raise LoginFailed(
            f"sudo refused {host.user}: {said.stderr.decode('utf-8', 'replace').strip()[-_TAIL:]}",
            where=host.name,
            hint=f"Allow it on the host: {host.user} ALL=(root) NOPASSWD: ALL",
        )


def _lost(host: Host, name: str, leash: Leash, max_output: int, error: Exception) -> DeadlineExceeded | ConnectionLost:
    """What to raise when there is no exit status: the script may have done its work or not."""
    if isinstance(error, TooMuchOutput):
        return OutputTooLarge(f"{name} was cut off: it wrote more than {max_output} bytes", where=host.name)
    if leash.passed or isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{name} was cut off after {leash.deadline.seconds:g} s", where=host.name)
    said = "" if isinstance(error, NoStatus) else f": {error}".rstrip(": ")
    return ConnectionLost(f"the connection ended during {name} without an exit status{said}", where=host.name)


class _NoSecrets:
    """For looks that never log in."""

    def resolve(self, ref: SecretRef) -> SecretValue:
        """Never asked."""
        raise AssertionError(f"{ref} was asked for without a login")


def scan_host_keys(host: Host, *, timeout_s: float = SCAN_TIMEOUT_S) -> tuple[str, ...]:
    """The keys a host shows, one per type, as `TYPE BASE64`; nothing is logged in.

    Raises HostUnreachable, and ConfigurationError for a host behind a jump host: that needs a login there, which
    SshShell.host_keys has.
    """
    if host.jump is not None:
        raise ConfigurationError(
            f"its keys cannot be read from here, only through its jump host {host.jump}",
            where=host.name,
            hint="Read them on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    shell = SshShell(_NoSecrets(), Inventory())
    try:
        return shell.host_keys(host, timeout_s=timeout_s)
    finally:
        shell.close()
