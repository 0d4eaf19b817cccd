"""A private PostgreSQL server for tests: own data folder, unix socket only, fsync on, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_S = 30.0
STOP_S = 15.0


class PostgresServer:
    """One running server. socket: its folder. pid: of the postmaster."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "socket"
        self.data = root / "data"
        self._bin = _newest_bin()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """What SQLAlchemy and irflow take."""
        return f"postgresql+psycopg://irflow@/{database}?host={self.socket}"

    def new_database(self) -> str:
        """The URL of a new empty database."""
        name = f"t{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement as the superuser."""
        with psycopg.connect(host=str(self.socket), user="irflow", dbname=database, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self) -> None:
        """Make the data folder."""
        self.socket.mkdir()
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            for path in (self.root, self.socket):
                os.chown(path, account.pw_uid, account.pw_gid)
        initdb = [str(self._bin / "initdb"), "-D", str(self.data), "-U", "irflow", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*_unprivileged(), *initdb, "--no-locale", "--no-sync"],
            check=True, capture_output=True, cwd="/", timeout=START_S,
        )  # fmt: skip

    def start(self) -> None:
        """Start and wait until it answers; it dies with the process that started it."""
        command = [
            *_unprivileged(), str(self._bin / "postgres"), "-D", str(self.data), "-k", str(self.socket),
            "-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=100", "-c", "shared_buffers=32MB",
        ]  # fmt: skip
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log_text = (self.root / "log").read_text()
                    self.stop()
                    raise RuntimeError(f"PostgreSQL did not start:\n{log_text}") from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop by pid. how: SIGINT closes cleanly (fast), SIGQUIT is a crash."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_S)


def _newest_bin() -> Path:
    """Where Debian keeps the server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise RuntimeError("PostgreSQL is missing: apt-get install postgresql")
    return found[-1].parent


def _unprivileged() -> list[str]:
    """PostgreSQL refuses to run as root; and it must not outlive the tests."""
    if os.getuid() != 0:
        return ["setpriv", "--pdeathsig", "INT", "--"]
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig", "INT", "--"]


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the length of a block. Not under pytest's own folder: others could not enter that."""
    root = Path(tempfile.mkdtemp(prefix="irflow-pg-", dir="/tmp"))
    server = PostgresServer(root)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # nobody needs the last checkpoint of data that is deleted next
        shutil.rmtree(root, ignore_errors=True)
