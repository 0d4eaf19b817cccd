"""A private Redis for tests: own folder, loopback, users in an ACL file, gone afterwards."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_S = 15.0
ADMIN, PASSWORD = "rotator", "admin-of-the-test"


class RedisServer:
    """One server. acl_file: users stand there, else in the configuration file. more: lines of configuration.

    tls: folder with `server.pem`, `server.key`, `ca.pem`; then nothing else is spoken.
    """

    def __init__(self, root: Path, *, acl_file: bool = True, more: str = "", tls: Path | None = None) -> None:
        self.root, self.tls = root, tls
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        users = f"user default off\nuser {ADMIN} on >{PASSWORD} ~irflow:* &* +@all\nuser shop on >old0 ~* +get +set\n"
        ports = f"port {self.port}\n"
        if tls:
            ports = f"port 0\ntls-port {self.port}\ntls-auth-clients no\ntls-ca-cert-file {tls}/ca.pem\n"
            ports += f"tls-cert-file {tls}/server.pem\ntls-key-file {tls}/server.key\n"
        config = f"{ports}{more}bind 127.0.0.1\ndir {root}\nsave ''\ndaemonize no\n".replace("''", '""')
        if acl_file:
            (root / "users.acl").write_text(users)
            config += f"aclfile {root}/users.acl\n"
        else:
            config += users
        (root / "redis.conf").write_text(config)

    def client(self, user: str = ADMIN, password: str = PASSWORD) -> redis.Redis:
        """A client of one's own."""
        no_retry = Retry(NoBackoff(), 0)  # by default a refused log-in takes seconds
        return redis.Redis(
            host="127.0.0.1", port=self.port, username=user, password=password, retry=no_retry, decode_responses=True,
            ssl=self.tls is not None, ssl_ca_certs=str(self.tls / "ca.pem") if self.tls else None,
        )  # fmt: skip

    def gets_in(self, user: str, password: str) -> bool:
        """As the attacker would."""
        with self.client(user, password) as client:
            try:
                client.get("x")
            except redis.exceptions.AuthenticationError:
                return False
        return True

    def start(self) -> None:
        """Start and wait until it answers; it dies with the process that started it."""
        command = ["setpriv", "--pdeathsig", "KILL", "--", "redis-server", str(self.root / "redis.conf")]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(redis.exceptions.ConnectionError), self.client() as client:
                client.ping()
                return
            assert self._process.poll() is None, (self.root / "log").read_text()
            assert time.monotonic() < deadline, "Redis did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it; its files stay."""
        if self._process:
            self._process.kill()
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def running_redis(
    root: Path, *, acl_file: bool = True, more: str = "", tls: Path | None = None
) -> Iterator[RedisServer]:
    """A server for the length of a block; its folder is made."""
    root.mkdir(exist_ok=True)
    server = RedisServer(root, acl_file=acl_file, more=more, tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.stop()
