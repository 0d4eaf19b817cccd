"""Connections kept open per host: shared by calls, replaced when dead or asked for fresh, closed when idle."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import paramiko

from irflow.adapters.ssh.connect import Logins, Stream, by_key, log_in, open_socket
from irflow.adapters.ssh.transport import Transport
from irflow.adapters.ssh.watchdog import Leash, Watchdog, patience
from irflow.core.errors import ConfigurationError, HostUnreachable
from irflow.core.inventory import Host, Inventory

PATIENCE_S = 3.0
"""How long a connection that has served before may take to open a channel; then it is given up for a new one."""

SESSIONS = 8
"""Scripts at once over one connection; sshd allows 10 by default (MaxSessions in sshd_config(5))."""


_BROKEN = (paramiko.SSHException, EOFError, OSError)


class Stale(HostUnreachable):
    """A kept connection opens no channel any more; nothing was sent over it, so another one may be tried."""


@dataclass(eq=False)
class Connection:
    """One login at a host.

    name: the host's. carrier: the jump host's connection it runs over. users: calls, and connections carried, that need
    it. served: whether it was used before, so that it may have died unnoticed. retired: closes with its last user.
    idle_since: time.monotonic() when the last user left.
    """

    name: str
    transport: Transport
    carrier: Connection | None = None
    users: int = 0
    served: bool = False
    retired: bool = False
    idle_since: float = 0.0
    sessions: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(SESSIONS))

    def session(self, leash: Leash) -> paramiko.Channel:
        """A channel for one script. Nothing is sent in it yet.

        Raises Stale when the connection has served before and seems to have died since, HostUnreachable otherwise.
        """
        served, self.served = self.served, True
        try:
            return self._open("session", leash, PATIENCE_S if served else math.inf)
        except _BROKEN as error:
            raise self._none(leash, error, stale=served) from None

    def tunnel(self, leash: Leash, to: tuple[str, int]) -> paramiko.Channel:
        """A stream to an address as this host sees it.

        A target that does not answer says nothing about this connection, which others share; so that is asked for a
        sign of life of its own. Raises as session.
        """
        served, self.served = self.served, True
        try:
            if served:
                with suppress(paramiko.ChannelException):  # refused is a sign of life too
                    self._open("session", leash, PATIENCE_S).close()
        except _BROKEN as error:
            raise self._none(leash, error, stale=True) from None
        try:
            return self._open("direct-tcpip", leash, math.inf, to)
        except _BROKEN as error:
            raise self._none(leash, error, stale=served and not self.transport.is_active()) from None

    def _open(self, kind: str, leash: Leash, most_s: float, to: tuple[str, int] | None = None) -> paramiko.Channel:
        with leash.cutting(patience, self.transport.sever):
            return self.transport.open(kind, min(leash.left(), most_s), to)

    def _none(self, leash: Leash, error: Exception, *, stale: bool) -> HostUnreachable:
        if stale and not leash.passed:
            return Stale("the kept connection opens no channel", where=self.name)
        said = error.text.lower() if isinstance(error, paramiko.ChannelException) else str(error)
        why = "not in time" if leash.passed else said or type(error).__name__
        return HostUnreachable(f"logged in, but no channel was opened: {why}", where=self.name)

    @property
    def usable(self) -> bool:
        """Whether it looks alive, and what it runs over does. Whether it is, the next channel tells."""
        return (
            not self.retired
            and self.transport.is_active()
            and (self.carrier is None or self.carrier.transport.is_active())
        )


@dataclass
class _Slot:
    """The place of one host. opening: held by whoever connects."""

    opening: threading.Lock = field(default_factory=threading.Lock)
    kept: Connection | None = None


Key = Callable[[Host], paramiko.PKey]
"""The responder's for a host, asked for at each login."""


class Pool:
    """The connections of one shell. key: see Key. parallel: most logins at once. idle_s: unused ones are closed."""

    def __init__(self, key: Key, inventory: Inventory, watchdog: Watchdog, *, parallel: int, idle_s: float) -> None:
        self._key, self._inventory, self._watchdog = key, inventory, watchdog
        self._idle_s = idle_s
        self._logins = Logins(parallel)
        self._lock = threading.Lock()
        self._slots: dict[Hashable, _Slot] = {}
        self._open: dict[Connection, None] = {}
        self._ending: list[Transport] = []
        self._sweeping = False
        self._closed = threading.Event()

    @contextmanager
    def lease(self, host: Host, leash: Leash, *, fresh: bool = False) -> Iterator[Connection]:
        """A connection to the host for the length of the block: the kept one, or a new one that is kept from now on.

        Raises what irflow.adapters.ssh.connect.log_in raises, ConfigurationError for a jump host that leads nowhere.
        """
        try:
            connection = self._take(host, leash, fresh, ())
            try:
                yield connection
            finally:
                self._give_back(connection)
        except HostUnreachable:
            if self._closed.is_set():
                raise _closing(host) from None
            raise

    def retire(self, connection: Connection) -> None:
        """Use it no more; it closes when its last user leaves."""
        with self._lock:
            connection.retired = True
            for slot in self._slots.values():
                if slot.kept is connection:
                    slot.kept = None
            unused = connection.users == 0
        if unused:
            self._end(connection)

    def dial(self, host: Host, leash: Leash) -> tuple[Callable[[], Stream], Callable[[], None]]:
        """(what makes a stream to the host's SSH port, what to call when they are all done)."""
        dial, carrier = self._way(host, leash, ())
        return dial, lambda: self._give_back(carrier) if carrier is not None else None

    def close(self) -> None:
        """Close all connections, those through a jump host first. Calls under way see their connection end."""
        with self._lock:
            self._closed.set()
            self._slots.clear()
            everything = sorted(self._open, key=lambda one: one.carrier is None)
        self._logins.end()
        for connection in everything:
            connection.transport.sever()
        with self._lock:
            ending = [*self._ending, *(connection.transport for connection in everything)]
            self._ending.clear()
            self._open.clear()
        for transport in ending:
            transport.end()

    # ------------------------------------------------------------ taking and giving back

    def _take(self, host: Host, leash: Leash, fresh: bool, trail: tuple[str, ...]) -> Connection:
        with self._lock:
            if self._closed.is_set():
                raise _closing(host)
            slot = self._slots.setdefault(_identity(host), _Slot())
            if not fresh and (known := self._use(slot)) is not None:
                return known
        if not slot.opening.acquire(timeout=leash.left()):
            raise HostUnreachable("somebody else's attempt to connect is still under way", where=host.name)
        try:
            with self._lock:
                if self._closed.is_set():
                    raise _closing(host)
                if not fresh and (known := self._use(slot)) is not None:
                    return known
            connection = self._connect(host, leash, trail)
            with self._lock:
                before, slot.kept = slot.kept, connection
                late = self._closed.is_set()
        finally:
            slot.opening.release()
        if before is not None:
            self.retire(before)
        if late:
            self._give_back(connection)
            self.retire(connection)
            raise _closing(host)
        return connection

    def _use(self, slot: _Slot) -> Connection | None:
        """The slot's connection with one user more, if it looks alive. The lock is held."""
        if slot.kept is None or not slot.kept.usable:
            return None
        slot.kept.users += 1
        return slot.kept

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            connection.users -= 1
            connection.idle_since = time.monotonic()
            unused = connection.retired and connection.users == 0
            sweep, self._sweeping = not self._sweeping, True
        if unused:
            self._end(connection)
        if sweep:
            self._watchdog.at(time.monotonic() + self._idle_s, self._sweep)

    def _end(self, connection: Connection) -> None:
        """Sever it; its thread cleans up. What it ran over has one user less."""
        with self._lock:
            if self._open.pop(connection, self) is self:
                return  # somebody else ends it
            self._ending = [*(one for one in self._ending if one.is_alive()), connection.transport]
        connection.transport.sever()
        if connection.carrier is not None:
            self._give_back(connection.carrier)

    def _sweep(self) -> float | None:
        """Close what was idle for too long; called by the watchdog. Returns seconds until the next sweep."""
        now = time.monotonic()
        with self._lock:
            idle = [one for one in self._open if one.users == 0 and now - one.idle_since >= self._idle_s]
            soonest = min((one.idle_since for one in self._open if one not in idle), default=None)
            self._sweeping = soonest is not None
        for connection in idle:
            self.retire(connection)
        return None if soonest is None else max(self._idle_s / 10, soonest + self._idle_s - now)

    # ------------------------------------------------------------ connecting

    def _connect(self, host: Host, leash: Leash, trail: tuple[str, ...]) -> Connection:
        """A new connection with one user. A jump host's connection that died unnoticed is replaced once."""
        try:
            return self._connect_once(host, leash, trail)
        except Stale:
            return self._connect_once(host, leash, trail)

    def _connect_once(self, host: Host, leash: Leash, trail: tuple[str, ...]) -> Connection:
        dial, carrier = self._way(host, leash, trail)
        try:
            transport = log_in(host, leash, dial, self._logins, by_key(lambda: self._key(host)))
        except BaseException:
            if carrier is not None:
                self._give_back(carrier)
            raise
        connection = Connection(host.name, transport, carrier, users=1)
        with self._lock:
            self._open[connection] = None
        return connection

    def _way(self, host: Host, leash: Leash, trail: tuple[str, ...]) -> tuple[Callable[[], Stream], Connection | None]:
        """How to make streams to a host, and the jump host's connection they use, with one user more."""
        if host.jump is None:
            return lambda: open_socket(host, leash), None
        trail = (*trail, host.name)
        jump = self._inventory.hosts.get(host.jump)
        if jump is None or jump.name in trail:
            wrong = (
                "is not in the inventory" if jump is None else f"leads in a circle: {' - '.join((*trail, host.jump))}"
            )
            raise ConfigurationError(
                f"the jump host {host.jump} {wrong}", where=host.name, hint="Correct `jump` in inventory.yaml"
            )
        carrier = self._take(jump, leash, False, trail)
        return lambda: self._tunnel(host, jump.name, carrier, leash), carrier

    def _tunnel(self, host: Host, jump: str, carrier: Connection, leash: Leash) -> paramiko.Channel:
        try:
            return carrier.tunnel(leash, (host.address, host.port))
        except Stale:
            self.retire(carrier)
            raise
        except HostUnreachable as error:
            raise HostUnreachable(
                f"{host.address} port {host.port} through {jump}: {error.message}",
                where=host.name,
                hint="May the jump host forward (AllowTcpForwarding), and does it reach the host?",
            ) from None


def _closing(host: Host) -> HostUnreachable:
    return HostUnreachable("irflow is closing its connections; nothing was sent", where=host.name)


def _identity(host: Host) -> Hashable:
    """What makes a connection one to this host as the inventory describes it now."""
    login = (host.user, host.key, host.certificate)
    return (host.name, host.address, host.port, *login, host.host_keys, host.jump, host.netns)
