"""A PostgreSQL server beside the lab's hosts, with roles whose passwords can leak."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from irflow.core.errors import ServiceMissing
from irflow.lab import command, server
from irflow.lab.lab import Lab

OWNER = "owner"
# As an account of its own: PostgreSQL refuses to run as root. Its own IPC too, or a killed server would leave memory.
_AS_SOMEONE = ("--user", "--map-user=1000", "--map-group=1000", "--ipc", "--")


@dataclass(frozen=True)
class LabDatabase:
    """One running server. folder: its socket is there; who may enter it is the server's owner. port: on 127.0.0.1."""

    folder: Path
    port: int

    def run(self, statement: str, *names: str, secret: str | None = None) -> None:
        """Run one statement as the owner. names: put in place of `{}` as identifiers; secret: then as a literal."""
        parts = [sql.Identifier(one) for one in names] + ([sql.Literal(secret)] if secret is not None else [])
        with psycopg.connect(
            host=str(self.folder), port=self.port, user=OWNER, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(sql.SQL(statement).format(*parts))

    def log_in(self, role: str, password: str) -> psycopg.Connection:
        """A session over TCP, as an application or a thief opens it. Raises psycopg.OperationalError."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=role, password=password, dbname="postgres", connect_timeout=5,
            autocommit=True, passfile="/dev/null",
        )  # fmt: skip

    def opens(self, role: str, password: str) -> bool:
        """Whether the password opens the role."""
        try:
            self.log_in(role, password).close()
        except psycopg.OperationalError:
            return False
        return True


def start(lab: Lab) -> LabDatabase:
    """Make a server and wait until it answers. Raises ServiceMissing, LabError."""
    programs, home = _programs(), server.folder(lab, "postgresql")
    someone = [command.program("unshare"), *_AS_SOMEONE]
    made = command.run(
        [
            *someone, str(programs / "initdb"), "-D", str(home / "data"), "-U", OWNER, "-E", "UTF8", "--no-locale",
            "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--wal-segsize=1",
        ],
        stdin=None, timeout_s=server.START_S, where="postgresql", environment=server.mark(lab),
    )  # fmt: skip
    if made.returncode:
        raise ServiceMissing(f"initdb failed: {made.stderr.decode(errors='replace').strip()[-400:]}")
    found = LabDatabase(home, server.free_port())

    def answers() -> bool:
        with suppress(psycopg.OperationalError):
            found.run("SELECT 1")
            return True
        return False

    argv = [
        *someone, str(programs / "postgres"), "-D", str(home / "data"), "-k", str(home), "-p", str(found.port),
        "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB", "-c", "max_wal_size=8MB",
    ]  # fmt: skip
    server.start(lab, argv, home / "log", answers)
    return found


def _programs() -> Path:
    """Where Debian keeps the newest server's programs. Raises ServiceMissing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServiceMissing("there is no PostgreSQL server here", hint="apt-get install postgresql")
    return found[-1].parent
