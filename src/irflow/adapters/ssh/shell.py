"""core.ports.Shell over paramiko: scripts of remote/ streamed to `sh`, over connections that are kept open."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import paramiko

from irflow.adapters.ssh.connect import open_socket, open_transport
from irflow.adapters.ssh.watchdog import WATCHDOG, Cuttable, Leash
from irflow.core.errors import (
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    HostError,
    HostUnreachable,
    RemoteFailed,
)
from irflow.core.inventory import Host, Inventory
from irflow.core.ports import Completed
from irflow.core.secret import SecretStore

_ARGUMENT = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]-]*")
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_CHUNK = 65536
_TAIL = 400


class SshShell:
    """Runs scripts on hosts. One kept connection per host; any number of calls share it as channels.

    secrets: asked for the key at each login. parallel: most connections being opened at once.
    """

    def __init__(self, secrets: SecretStore, inventory: Inventory, *, parallel: int = 32) -> None:
        self._secrets, self._inventory = secrets, inventory
        self._opening = threading.BoundedSemaphore(parallel)
        self._lock = threading.Lock()
        self._host_locks: dict[str, threading.Lock] = {}
        self._kept: dict[str, paramiko.Transport] = {}
        self._retired: list[paramiko.Transport] = []

    # ------------------------------------------------------------ the port

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
    ) -> Completed:
        """See core.ports.Shell.run."""
        text, line = _script(script), _command(host, args)
        started = time.monotonic()
        transport = self._transport(host, timeout_s, fresh=fresh)
        left = max(0.05, timeout_s - (time.monotonic() - started))
        with WATCHDOG.watch(_socket(transport), left) as leash:
            try:
                status, out, err = _exchange(transport, line, text, leash, max_output)
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise _lost(host, script, leash, timeout_s, error) from None
        if status is None:
            raise _lost(host, script, leash, timeout_s, None)
        done = Completed(status, out, err, time.monotonic() - started)
        if check and status != 0:
            said = err.decode("utf-8", "replace").strip()[-_TAIL:] or "no message"
            raise RemoteFailed(f"{script} ended with {status}: {said}", where=host.name, status=status)
        return done

    def connect(self, host: Host, *, timeout_s: float) -> None:
        """Open the kept connection if there is none."""
        self._transport(host, timeout_s, fresh=False)

    def close(self) -> None:
        """Close all connections; those through a jump host first, because closing them early can kill the jump's."""
        with self._lock:
            kept, self._kept = self._kept, {}
            retired, self._retired = self._retired, []
        through = [name for name in kept if name in self._inventory.hosts and self._inventory.hosts[name].jump]
        for transport in (*retired, *(kept[name] for name in through), *kept.values()):
            transport.close()

    # ------------------------------------------------------------ connections

    def _transport(self, host: Host, timeout_s: float, *, fresh: bool) -> paramiko.Transport:
        with self._lock:
            lock = self._host_locks.setdefault(host.name, threading.Lock())
        with lock:
            known = self._kept.get(host.name)
            if known is not None and not fresh and known.is_active():
                return known
            opened = self._open(host, timeout_s, ())
            with self._lock:
                before = self._kept.pop(host.name, None)
                self._kept[host.name] = opened
            if before is not None:
                self._retire(host, before)
            return opened

    def _retire(self, host: Host, transport: paramiko.Transport) -> None:
        """Close a replaced connection; one through a jump host only with all others (facts: lab, section 4)."""
        if host.jump:
            with self._lock:
                self._retired.append(transport)
        else:
            transport.close()

    def _open(self, host: Host, timeout_s: float, through: tuple[str, ...]) -> paramiko.Transport:
        if host.jump is None:
            with self._opening, WATCHDOG.watch(None, timeout_s) as leash:
                sock = open_socket(host, leash)
                leash.sock = sock
                return open_transport(host, sock, self._secrets, leash)
        jump = self._inventory.hosts.get(host.jump)
        if jump is None or host.jump in (*through, host.name):
            raise ConfigurationError(f"the jump host {host.jump} is unknown or leads in a circle", where=host.name)
        started = time.monotonic()
        carrier = self._transport(jump, timeout_s, fresh=False)
        left = max(0.05, timeout_s - (time.monotonic() - started))
        with WATCHDOG.watch(None, left) as leash:
            try:
                channel = carrier.open_channel(
                    "direct-tcpip", (host.address, host.port), ("127.0.0.1", 0), timeout=leash.left()
                )
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise HostUnreachable(f"not reached through {jump.name}: {error}", where=host.name) from None
            channel.settimeout(leash.left())
            leash.sock = channel
            return open_transport(host, channel, self._secrets, leash)


def _socket(transport: paramiko.Transport) -> Cuttable:
    return transport.sock


@lru_cache
def _script(name: str) -> bytes:
    if not re.fullmatch(r"[a-z0-9_]+\.sh", name):
        raise ConfigurationError(f"not a remote script: {name!r}")
    return (files("irflow.remote") / name).read_bytes()


def _command(host: Host, args: Sequence[str]) -> str:
    """The command line. Every argument is checked and quoted; the environment is ours alone."""
    for argument in args:
        if not _ARGUMENT.fullmatch(argument):
            raise ConfigurationError(f"refusing to send the argument {argument!r}", where=host.name)
    quoted = " ".join(f"'{argument}'" for argument in args)
    clean = f'env -i PATH={_PATH} LC_ALL=C TZ=UTC HOME=/root IRFLOW_CONNECTION="$SSH_CONNECTION" sh -s -- {quoted}'
    return f"umask 077; exec {'sudo -n ' if host.sudo else ''}{clean}"


def _exchange(
    transport: paramiko.Transport, line: str, script: bytes, leash: Leash, max_output: int
) -> tuple[int | None, bytes, bytes]:
    """Run one command; the status is None when the connection ended without one. Raises paramiko's errors."""
    channel = transport.open_session(timeout=leash.left())
    try:
        channel.settimeout(leash.left())
        channel.exec_command(line)
        channel.sendall(script)
        channel.shutdown_write()
        err: list[bytes] = []
        reader = threading.Thread(target=_drain, args=(channel, err, max_output), daemon=True)
        reader.start()
        out, size = [], 0
        while chunk := channel.recv(_CHUNK):
            size += len(chunk)
            if size > max_output:
                raise paramiko.SSHException(f"more than {max_output} bytes of output")
            out.append(chunk)
        reader.join(leash.left())
        if leash.fired or not channel.status_event.wait(leash.left()) or channel.exit_status < 0:
            return None, b"", b""
        return channel.exit_status, b"".join(out), b"".join(err)
    finally:
        channel.close()


def _drain(channel: paramiko.Channel, into: list[bytes], most: int) -> None:
    """Standard error, read beside standard output so that neither blocks the other; capped."""
    size = 0
    try:
        while chunk := channel.recv_stderr(_CHUNK):
            size += len(chunk)
            if size <= most:
                into.append(chunk)
    except OSError:
        return


def _lost(host: Host, script: str, leash: Leash, timeout_s: float, error: Exception | None) -> HostError:
    """What to raise when there is no exit status: the script may have done its work or not."""
    if leash.fired or isinstance(error, TimeoutError):
        return DeadlineExceeded(f"{script} was cut off after {timeout_s:.1f} s", where=host.name)
    why = f": {error}" if error else ""
    return ConnectionLost(f"the connection ended without an exit status during {script}{why}", where=host.name)
