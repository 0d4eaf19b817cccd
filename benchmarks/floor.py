"""The floor: a bare HTTP receiver with paramiko that applies and confirms, host by host, and proves nothing else.

It streams the same `isolate.sh`, over sockets made in the lab's responder network, 32 hosts at a time, each apply on
one connection and each confirm on a new one. No journal, no plan, no probe, no evidence.
"""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import paramiko

from irflow import remote
from irflow.adapters.netns import socket_in
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost

WORKERS = 32
TIMEOUT_S = 30.0
COMMAND = 'exec env IRFLOW_CONNECTION="$SSH_CONNECTION" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C sh -s -- '


class Floor:
    """The receiver. done: set when the last host is confirmed; finished_at: that moment, monotonic."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._key = paramiko.Ed25519Key.from_private_key_file(str(lab.responder_key))
        self._script = remote.text("isolate.sh")
        self._pool = ThreadPoolExecutor(WORKERS)
        self._epoch = int(time.time() * 1000)
        self.done = threading.Event()
        self.finished_at = 0.0
        self.failures: list[str] = []

    def contain(self, names: list[str]) -> None:
        """Cut the hosts; returns when the last one is confirmed."""
        self._epoch += 1
        self.failures = [failure for failure in self._pool.map(self._one, map(self._lab.host, names)) if failure]
        self.finished_at = time.monotonic()
        self.done.set()

    def _one(self, host: LabHost) -> str:
        common = f"--epoch {self._epoch} --step floor"
        management = " ".join(f"--management {address}" for address in self._lab.management_addresses)
        for verb in (f"apply {common} {management} --deadman 60", f"confirm {common} --ttl 3600"):
            status, error = self._run(host, verb)
            if status != 0:
                return f"{host.name}: {verb.split()[0]}: {status}: {error}"
        return ""

    def _run(self, host: LabHost, arguments: str) -> tuple[int, str]:
        sock = socket_in(self._lab.netns("responder"), socket.AF_INET)
        sock.settimeout(TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((host.address, host.port))
        transport = paramiko.Transport(sock)
        transport.get_security_options().kex = ("curve25519-sha256@libssh.org",)
        try:
            transport.start_client(timeout=TIMEOUT_S)
            kind, _, key = host.host_key.partition(" ")
            shown = transport.get_remote_server_key()
            if (shown.get_name(), shown.get_base64()) != (kind, key):
                return 255, "host key"
            transport.auth_publickey("root", self._key)
            channel = transport.open_session(timeout=TIMEOUT_S)
            channel.settimeout(TIMEOUT_S)
            channel.exec_command(COMMAND + arguments)
            channel.sendall(self._script)
            channel.shutdown_write()
            while channel.recv(65536):
                pass
            error = b"".join(iter(lambda: channel.recv_stderr(65536), b""))
            return channel.recv_exit_status(), error.decode()[-200:]
        finally:
            transport.close()


@contextmanager
def serve(lab: Lab) -> Iterator[tuple[str, Floor]]:
    """The receiver on a free loopback port: (URL, receiver). It answers 202 before it acts, as irflow does."""
    floor = Floor(lab)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            names = json.loads(self.rfile.read(int(self.headers["content-length"])))["hosts"]
            self.send_response(202)
            self.end_headers()
            threading.Thread(target=floor.contain, args=(names,), daemon=True).start()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", floor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
