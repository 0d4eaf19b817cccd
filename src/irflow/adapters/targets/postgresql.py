"""A PostgreSQL role with a password. It has one password, so between applying and promoting the old one is refused."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic import Field

from irflow.adapters.postgresql_login import Server, admits, connect
from irflow.core.errors import OutcomeUnknown, ServiceMissing
from irflow.core.reference import Reference
from irflow.core.rotation import Document, SecretBusy, TargetRefused, Writer
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretRef, SecretStore, SecretValue

KIND = "postgresql"
_LENGTH = 40
_ALPHABET = string.ascii_letters + string.digits
# A half-open connection would keep the lock: both ends give up after about 15 s.
_KEEPALIVE_THERE = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3"


class Params(Server):
    """role: whose password it is. admin, admin_secret: who may change it."""

    role: str = Field(min_length=1, max_length=63)
    admin: str = Field(min_length=1, max_length=63)
    admin_secret: Reference


def open_target(params: Params, means: Means) -> Role:
    """The target that the parameters name. Nothing is connected yet."""
    return Role(params, means.secrets)


@dataclass(frozen=True)
class Role:
    """core.rotation.Target."""

    params: Params
    store: SecretStore
    overlap: bool = False
    asks: bool = True

    def new_value(self) -> SecretValue:
        """40 letters and digits: 238 bits, and nothing that a connection string would have to quote."""
        return SecretValue("".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """The role's advisory lock, held by the session that alters it."""
        password = self.store.resolve(SecretRef.parse(self.params.admin_secret))
        try:
            connection = connect(self.params, self.params.admin, password)
        except psycopg.OperationalError as error:
            raise self._missing(error) from None
        with connection:
            connection.execute(_KEEPALIVE_THERE)
            if not _first(connection, "SELECT pg_try_advisory_lock(%s)", self._lock):
                raise SecretBusy("another rotation is under way", where=self._where, hint="Wait for it, then try again")
            yield _RoleWriter(self.params, connection, self._where)

    def admits(self, value: SecretValue) -> bool:
        """Log in with it. Raises OutcomeUnknown on an answer that is neither yes nor no."""
        return admits(self.params, self.params.role, value)

    def _missing(self, error: psycopg.OperationalError) -> ServiceMissing:
        lines = str(error).strip().splitlines()
        return ServiceMissing(
            f"no connection as {self.params.admin}: {lines[-1] if lines else 'no reason given'}", where=self._where,
            hint="Is it running, and may the admin log in?",
        )  # fmt: skip

    @property
    def _where(self) -> str:
        return f"postgresql:{self.params.host}:{self.params.port}/{self.params.role}"

    @property
    def _lock(self) -> int:
        return int.from_bytes(hashlib.sha256(f"irflow {self.params.role}".encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class _RoleWriter:
    params: Params
    connection: psycopg.Connection
    where: str

    def apply(self, new: SecretValue, document: Document) -> None:
        """Set it as a SCRAM verifier made here, so that the server's log never sees the password."""
        verifier = self.connection.pgconn.encrypt_password(
            new.reveal(), self.params.role.encode(), b"scram-sha-256"
        ).decode()
        self._alter(sql.SQL("PASSWORD {}").format(sql.Literal(verifier)))

    def revoke(self, value: SecretValue, document: Document) -> None:
        """The password is gone since apply; the sessions that were opened with it end here."""
        self._do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND pid <> pg_backend_pid()",
            self.params.role,
        )

    def disable(self, document: Document) -> None:
        """No log-in and no password, so that it is refused like any wrong one."""
        self._alter(sql.SQL("NOLOGIN PASSWORD NULL"))
        self.revoke(document.live, document)

    def enable(self, document: Document) -> None:
        """Log-in again; the password was set by apply."""
        self._alter(sql.SQL("LOGIN"))

    def _alter(self, what: sql.Composable) -> None:
        self._do(sql.SQL("ALTER ROLE {} ").format(sql.Identifier(self.params.role)) + what)

    def _do(self, statement: str | sql.Composable, *values: object) -> None:
        try:
            self.connection.execute(statement, values or None)  # type: ignore[arg-type]
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise OutcomeUnknown(
                f"the connection was lost: {type(error).__name__}",
                where=self.where,
                hint="irflow secrets sweep goes on",
            ) from None
        except psycopg.Error as error:
            raise TargetRefused(
                f"the server refuses: {error.diag.message_primary or type(error).__name__}", where=self.where,
                hint=f"May {self.params.admin} alter the role?",
            ) from None  # fmt: skip


def _first(connection: psycopg.Connection, statement: str, *values: object) -> object:
    row = connection.execute(statement, values).fetchone()
    return row[0] if row else None
