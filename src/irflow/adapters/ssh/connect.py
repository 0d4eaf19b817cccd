"""Opening one SSH connection: the stream underneath, the host key, the login."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko

from irflow.adapters import tcp
from irflow.adapters.ssh import hostkeys
from irflow.adapters.ssh.login import refusal_hint
from irflow.adapters.ssh.transport import PromptSocket, Transport
from irflow.adapters.ssh.watchdog import Leash
from irflow.core.errors import HostUnreachable, LoginFailed
from irflow.core.inventory import Host
from irflow.core.rotation_means import NotOffered

DEAD_AFTER_S = 10
"""Data that stay unacknowledged so long end a connection; so does silence, asked after every third of it."""

PAUSES_S = (0.15, 0.4, 1.0)
"""Before trying again when sshd hangs up without a greeting: it does so at random while it has too many logins under
way (MaxStartups in sshd_config(5)), for instance because somebody is guessing passwords."""

Stream = socket.socket | paramiko.Channel


def open_socket(host: Host, leash: Leash) -> socket.socket:
    """A TCP connection to a host that needs no jump host. Raises HostUnreachable."""
    try:
        sock = PromptSocket(fileno=tcp.connect(host, host.port, leash.deadline).detach())
    except socket.gaierror as error:
        raise HostUnreachable(
            f"the name {host.address} does not resolve: {error.strerror}",
            where=host.name,
            hint="Write its IP address into the inventory: names should not be needed in an incident",
        ) from None
    except OSError as error:
        why = "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        raise HostUnreachable(
            f"{host.address} port {host.port}: {why}", where=host.name, hint="Check network, address and firewall"
        ) from None
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        # A pulled cable ends the connection by itself; keep-alives alone do not do that (facts: lab, section 4).
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_AFTER_S // 3),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_AFTER_S // 3),
    ):
        sock.setsockopt(level, option, value)
    return sock


class Logins:
    """The logins under way: so many at once and no more, and all of them can be ended."""

    def __init__(self, parallel: int) -> None:
        self._turns = threading.BoundedSemaphore(parallel)
        self._lock = threading.Lock()
        self._under_way: set[Transport] = set()
        self._ended = False

    @contextmanager
    def turn(self, host: Host, transport: Transport, leash: Leash) -> Iterator[None]:
        """Wait until the host has said its first word, then for a turn: silent hosts take none away from others.

        Raises HostUnreachable.
        """
        with self._lock:
            if self._ended:
                raise HostUnreachable("no more logins", where=host.name)
            self._under_way.add(transport)
        try:
            _await_word(transport.sock, leash)
            if leash.passed:
                raise HostUnreachable(_late("sent no SSH greeting", leash), where=host.name)
            if not self._turns.acquire(timeout=leash.left()):
                raise HostUnreachable("no turn to connect came in time: too many at once", where=host.name)
            try:
                yield
            finally:
                self._turns.release()
        finally:
            with self._lock:
                self._under_way.discard(transport)

    def end(self) -> None:
        """Sever those under way, and let no other begin."""
        with self._lock:
            self._ended = True
            under_way = tuple(self._under_way)
        for transport in under_way:
            transport.sever()


Enter = Callable[[Host, Transport, Leash], None]
"""Says who we are, once the host has been greeted and its key checked."""


def log_in(host: Host, leash: Leash, dial: Callable[[], Stream], logins: Logins, enter: Enter) -> Transport:
    """Greet, check the host key, log in.

    dial: makes the stream to the host's SSH port. logins: where to wait for a turn. enter: see by_key, by_password.
    Raises HostKeyUnknown, HostKeyChanged, LoginFailed, HostUnreachable, and what dial and enter raise.
    """
    types = hostkeys.types_on_record(host)
    for pause in (*PAUSES_S, None):
        transport = Transport(dial(), types)
        try:
            with leash.cutting(transport.sever), logins.turn(host, transport, leash):
                _greet(host, transport, leash)
                enter(host, transport, leash)
        except _HungUp:
            transport.end()
            if pause is None or leash.deadline.left() <= pause:
                raise HostUnreachable(
                    "the host hangs up before its SSH greeting", where=host.name, hint="Is its sshd overloaded?"
                ) from None
            time.sleep(pause)
        except paramiko.ssh_exception.IncompatiblePeer as error:
            transport.end()
            if "host key" in str(error):
                raise hostkeys.changed(host, _shown(host, leash, dial)) from None
            raise HostUnreachable(f"no common algorithms: {error}", where=host.name) from None
        except BaseException:
            transport.end()
            raise
        else:
            return transport
    raise AssertionError("the last pause is None")


class _HungUp(Exception):
    """The stream ended before the other side said anything."""


def _await_word(stream: Stream, leash: Leash) -> None:
    """Wait until there is something to read, the stream ends or the deadline comes."""
    if isinstance(stream, paramiko.Channel):
        word = threading.Event()
        stream.in_buffer.set_event(word)
        word.wait(leash.left())
    else:
        waiting = select.poll()
        waiting.register(stream, select.POLLIN)
        waiting.poll(leash.left() * 1000)


def _late(what: str, leash: Leash) -> str:
    return f"the host {what} within {leash.deadline.seconds:g} s"


def _shown(host: Host, leash: Leash, dial: Callable[[], Stream]) -> tuple[str, ...]:
    """The keys a host shows; empty when there is no time left to read them, or when it does not say."""
    try:
        return hostkeys.read(host, leash, dial)
    except HostUnreachable:
        return ()


def _greet(host: Host, transport: Transport, leash: Leash) -> None:
    """Exchange keys and check the host's. Nothing of ours but a version string is sent before that."""
    transport.banner_timeout = leash.left()
    try:
        transport.start_client(timeout=leash.left())
        if leash.passed or not transport.initial_kex_done:
            raise paramiko.SSHException("no key exchange")
        shown = transport.get_remote_server_key()
    except paramiko.ssh_exception.IncompatiblePeer:
        raise
    except (paramiko.SSHException, EOFError, OSError) as error:
        if leash.passed:
            said = "did not finish its SSH greeting" if transport.remote_version else "sent no SSH greeting"
            raise HostUnreachable(_late(said, leash), where=host.name) from None
        if not transport.remote_version:
            raise _HungUp from None
        raise HostUnreachable(f"the SSH greeting failed: {_words(error)}", where=host.name) from None
    hostkeys.check(host, shown)


def by_key(key: Callable[[], paramiko.PKey]) -> Enter:
    """With a private key, which is read when it is needed."""
    return lambda host, transport, leash: _authenticate(host, transport, key(), leash)


def by_password(password: str) -> Enter:
    """With a password, asked for directly or by a dialogue; NotOffered when the host takes none."""
    return lambda host, transport, leash: _try_password(host, transport, password, leash)


def _authenticate(host: Host, transport: Transport, key: paramiko.PKey, leash: Leash) -> None:
    """Log in with the key, which is forgotten afterwards."""
    transport.auth_timeout = leash.left()
    try:
        rest = transport.auth_publickey(host.user, key)
    except (paramiko.SSHException, EOFError, OSError) as error:
        if leash.passed:
            raise HostUnreachable(
                f"no answer to the login as {host.user} within {leash.deadline.seconds:g} s", where=host.name
            ) from None
        # paramiko takes a connection that ended for a refusal.
        if not isinstance(error, paramiko.AuthenticationException) or not transport.is_active():
            raise HostUnreachable(f"the login broke off: {_words(error)}", where=host.name) from None
        raise LoginFailed(
            f"the host refused the login as {host.user}: {_words(error)}", where=host.name, hint=refusal_hint(host)
        ) from None
    finally:
        if transport.auth_handler is not None:
            transport.auth_handler.private_key = None
    if rest:
        raise LoginFailed(
            f"the host wants more than a key for {host.user}: {', '.join(rest)}",
            where=host.name,
            hint="Use an account that logs in with a key or certificate alone",
        )


def _try_password(host: Host, transport: Transport, password: str, leash: Leash) -> None:
    transport.auth_timeout = leash.left()
    try:
        rest = transport.auth_password(host.user, password, fallback=True)
    except paramiko.BadAuthenticationType:
        raise NotOffered("the host takes no passwords over SSH", where=host.name) from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        if not isinstance(error, paramiko.AuthenticationException) or not transport.is_active():
            raise HostUnreachable(f"the login broke off: {_words(error)}", where=host.name) from None
        raise LoginFailed(f"the host refused the password of {host.user}", where=host.name) from None
    if rest:
        raise LoginFailed(f"the host wants more than a password for {host.user}", where=host.name)


def _words(error: Exception) -> str:
    """What an error of paramiko says, or else what it is called."""
    return str(error).rstrip(".") or type(error).__name__
