"""SSH servers on loopback that stop answering, talk without end or hang up, each at its own point."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator

import paramiko
import paramiko.common
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from irflow.core.inventory import Host
from irflow.core.secret import SecretRef, SecretValue

LONG_S = 30.0


def new_key() -> bytes:
    """A private key as ssh-keygen writes it."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


class OneKey:
    """A secret store with one key for every reference. asked: how often."""

    def __init__(self) -> None:
        self._key = new_key()
        self.asked = 0

    def resolve(self, ref: SecretRef) -> SecretValue:
        self.asked += 1
        return SecretValue(self._key)


class NastyServer:
    """Misbehaves in one way, named by `mode`; `ok` behaves. sessions: scripts it was asked to run so far.

    errors: what `ends with 1` writes to standard error.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.errors = b""
        self.key = paramiko.Ed25519Key.from_private_key(io.StringIO(new_key().decode()))
        self.sessions = 0
        self.connections = 0
        self.over = threading.Event()
        self._keep: list[socket.socket | paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0 if mode == "no SYN answer" else 50)
        if mode == "no SYN answer":
            for _ in range(3):  # fill the queue: the kernel then drops further SYNs
                waiting = socket.socket()
                waiting.setblocking(False)
                waiting.connect_ex(self._listener.getsockname())
                self._keep.append(waiting)
        else:
            self.start(self._accept)

    @property
    def host(self) -> Host:
        """The server as the inventory would describe it."""
        address, port = self._listener.getsockname()
        key = f"{self.key.get_name()} {self.key.get_base64()}"
        return Host(name="nasty", address=address, port=port, key="file:/key", host_keys=(key,))

    def start(self, work: Callable[[], None]) -> None:
        """Run work in a thread; that its connection ends is normal."""

        def quietly() -> None:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                work()

        threading.Thread(target=quietly, daemon=True).start()

    def drop_connections(self) -> None:
        """Cut all connections, as a host that dies does."""
        for one in self._keep:
            one.close()
        self._keep.clear()

    def close(self) -> None:
        """Stop."""
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()

    def _accept(self) -> None:
        while not self.over.is_set():
            connection, _ = self._listener.accept()
            self.connections += 1
            self._keep.append(connection)
            self.start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        if self.mode == "hangs up":
            connection.close()
        elif self.mode == "banner without end":
            while not self.over.wait(0.05):
                connection.sendall(b"hello\r\n")
        elif self.mode == "no key exchange":
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        elif self.mode != "silent":
            transport = paramiko.Transport(connection)
            transport.daemon = True
            transport.add_server_key(self.key)
            self._keep.append(transport)
            transport.start_server(server=_Session(self), event=threading.Event())


class _Session(paramiko.ServerInterface):
    def __init__(self, server: NastyServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._stall("no login answer")
        return (
            paramiko.common.AUTH_FAILED if self._server.mode == "refuses the key" else paramiko.common.AUTH_SUCCESSFUL
        )

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._stall("no channel")
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._server.sessions += 1
        self._stall("no exec answer")
        if self._server.mode != "refuses to run":
            self._server.start(lambda: self._answer(channel))
            return True
        return False

    def _stall(self, mode: str) -> None:
        if self._server.mode == mode:
            self._server.over.wait(LONG_S)

    def _answer(self, channel: paramiko.Channel) -> None:
        mode, over = self._server.mode, self._server.over
        if mode == "drips output":
            while not over.wait(0.05):
                channel.sendall(b".")
        elif mode == "floods output":
            while not over.is_set():
                channel.sendall(b"x" * 30_000)
        elif mode == "floods errors":
            while not over.is_set():
                channel.sendall_stderr(b"x" * 30_000)
        elif mode == "no exit status":
            channel.sendall(b"done")
            channel.shutdown_write()
            over.wait(LONG_S)
        elif mode == "closes without status":
            channel.sendall(b"done")
            channel.close()
        elif mode == "dies while running":
            channel.get_transport().close()
        elif mode == "ends with 1":
            channel.sendall_stderr(self._server.errors)
            channel.send_exit_status(1)
            channel.close()
        elif mode == "never reads":
            over.wait(LONG_S)
        else:
            channel.sendall(b"ok")
            channel.send_exit_status(0)
            channel.close()


@contextlib.contextmanager
def serving(mode: str) -> Iterator[NastyServer]:
    """A nasty server for the length of the block."""
    server = NastyServer(mode)
    try:
        yield server
    finally:
        server.close()
