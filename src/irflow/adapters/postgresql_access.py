"""Roles of PostgreSQL: shut, with all rights taken, and opened again exactly. core.databases.Databases."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from irflow.adapters import postgresql_acls as acls
from irflow.adapters import postgresql_grants as statements
from irflow.adapters.postgresql_login import Server, connect
from irflow.core.databases import Grant, Membership, RoleAccess, grants_that_go, memberships_that_go
from irflow.core.errors import IrflowError, OutcomeUnknown, Refused, ServiceMissing
from irflow.core.secret import SecretRef, SecretStore

_LOCK_S = 5
_PAUSE_S = 0.05
_FIRST_OF_ALL = 10
"""The role that initdb made: without it nobody could mend the server (pg_authid.dat, BOOTSTRAP_SUPERUSERID)."""
# Who is logged in. Others than these, such as a subscription's worker, start again by themselves and need no login.
_SESSIONS = """
FROM pg_stat_activity
WHERE usesysid = %s AND backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()
"""
_GONE = (
    errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.UndefinedObject,
    errors.InvalidSchemaName, errors.InvalidCatalogName,
)  # fmt: skip


@dataclass(frozen=True)
class Way:
    """How irflow gets into one database. user: who may change what roles can do. password: reference."""

    server: Server
    user: str
    password: SecretRef


@dataclass(frozen=True)
class PostgresqlDatabases:
    """core.databases.Databases. own: roles that irflow itself needs, on whatever server; they are never closed."""

    ways: Mapping[str, Way]
    secrets: SecretStore
    own: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """See core.databases.Databases."""
        return tuple(self.ways)

    def describe(self, database: str, *, timeout_s: float) -> str:
        """Log in: `keeper, superuser, PostgreSQL 15.8`. Raises ServiceMissing."""
        with self._open(database, timeout_s) as connection:
            row = connection.execute(
                "SELECT current_user::text, rolsuper, current_setting('server_version') FROM pg_roles "
                "WHERE rolname = current_user"
            ).fetchone() or ("?", False, "?")
        can = "superuser" if row[1] else "no superuser: closes what roles it is a member of have granted"
        return f"{row[0]}, {can}, PostgreSQL {str(row[2]).split()[0]}"

    def look(self, database: str, roles: Collection[str], *, timeout_s: float) -> tuple[RoleAccess, ...]:
        """See core.databases.Databases."""
        with self._open(database, timeout_s) as connection:
            known = _numbers(connection, roles)
            for name, number in known.items():
                self._refuse(database, name, number)
            entries, members = acls.grants(connection, known.values()), acls.memberships(connection)
            return tuple(_access(connection, name, number, entries, members) for name, number in known.items())

    def close(self, database: str, access: Sequence[RoleAccess], *, timeout_s: float) -> None:
        """See core.databases.Databases. The login goes first, so that no session comes while others end."""
        deadline = time.monotonic() + timeout_s
        with self._open(database, timeout_s) as connection:
            known = _numbers(connection, [one.role for one in access])
            with connection.transaction():
                for role in known:
                    connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
            for number in known.values():
                _end_sessions(connection, number, deadline)
            with connection.transaction():
                refused = _take(connection, access)
                entries = acls.grants(connection, known.values()) if refused else []
                if refused and any(grants_that_go(role, entries) for role in known):
                    raise refused

    def give_back(self, database: str, access: Sequence[RoleAccess], *, timeout_s: float) -> tuple[str, ...]:
        """See core.databases.Databases. What rests upon something that is not back yet has its turn again."""
        todo: dict[Membership | Grant, str] = {}
        for one in access:
            todo |= dict.fromkeys((*one.memberships, *one.grants), "")
        with self._open(database, timeout_s) as connection:
            count = len(todo) + 1
            while todo and len(todo) < count:
                count = len(todo)
                todo = {one: said for one in todo if (said := _give(connection, one))}
            known = _numbers(connection, [one.role for one in access])
            for one in access:
                if one.login and one.role in known:
                    connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(one.role)))
        gone = [f"the role {one.role}: it is gone" for one in access if one.role not in known]
        return (*gone, *(f"{_shown(one)}: {said}" for one, said in todo.items()))

    def _refuse(self, database: str, role: str, number: int) -> None:
        own = role in self.own or role == self.ways[database].user
        first = "without it nobody could mend the server" if number == _FIRST_OF_ALL else ""
        why = "irflow itself needs it" if own else "it is the server's own" if role.startswith("pg_") else first
        if why:
            raise Refused(
                f"{role} is never closed: {why}", where=database, hint="Leave it out; irflow secrets rotate replaces "
                "its password",
            )  # fmt: skip

    @contextmanager
    def _open(self, database: str, timeout_s: float) -> Iterator[psycopg.Connection]:
        """A connection that commits by itself, with names that are never looked up along a path."""
        way = self.ways.get(database)
        if way is None:
            hint = f"There are {', '.join(self.ways)}" if self.ways else "Name it under databases:"
            raise Refused(f"irflow knows no database {database}", where="irflow.yaml", hint=hint)
        password = self.secrets.resolve(way.password)
        try:
            connection = connect(way.server, way.user, password)
        except psycopg.OperationalError as error:
            said = str(error).strip().splitlines() or ["no reason given"]
            raise ServiceMissing(
                f"no connection as {way.user}: {said[-1]}", where=database, hint="Is it running, and may irflow log in?"
            ) from None
        with connection:
            with _told(database, way.user):
                settings = {"search_path": "", "lock_timeout": f"{_LOCK_S}s", "statement_timeout": f"{timeout_s:.1f}s"}
                for name, value in settings.items():
                    connection.execute("SELECT set_config(%s, %s, false)", [name, value])
                yield connection


@contextmanager
def _told(database: str, user: str) -> Iterator[None]:
    """Errors of the server, as irflow's own."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise Refused(
            f"the server refuses: {error.diag.message_primary}", where=database,
            hint=f"{user} must be a superuser, or a member of every role that owns or grants something",
        ) from None  # fmt: skip
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise OutcomeUnknown(f"the connection was lost, or took too long: {error}", where=database) from None
    except psycopg.Error as error:
        raise IrflowError(f"the server refuses: {error.diag.message_primary or error}", where=database) from None


# ---------------------------------------------------------------- what there is


def _numbers(connection: psycopg.Connection, roles: Collection[str]) -> dict[str, int]:
    """The roles that exist, with their numbers."""
    rows = connection.execute("SELECT rolname, oid FROM pg_roles WHERE rolname = ANY(%s)", [list(roles)]).fetchall()
    found = {str(name): int(number) for name, number in rows}
    return {name: found[name] for name in roles if name in found}


def _access(
    connection: psycopg.Connection, role: str, number: int, entries: Sequence[Grant], members: Sequence[Membership]
) -> RoleAccess:
    login = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE oid = %s", [number]).fetchone()
    return RoleAccess(
        role=role,
        login=bool(login and login[0]),
        sessions=_sessions(connection, number),
        grants=grants_that_go(role, entries),
        memberships=memberships_that_go(role, members),
        owns=acls.owns(connection, number),
        runs_as_it=acls.runs_as(connection, number),
        members=tuple(one.member for one in members if one.group == role),
    )


def _sessions(connection: psycopg.Connection, role: int) -> int:
    row = connection.execute(f"SELECT count(*) {_SESSIONS}".encode(), [role]).fetchone()
    return int(row[0]) if row else 0


# ---------------------------------------------------------------- what is changed


def _end_sessions(connection: psycopg.Connection, role: int, deadline: float) -> None:
    """Until there is none: one that was just logging in may appear late. Raises OutcomeUnknown at the deadline."""
    while True:
        connection.execute(f"SELECT pg_terminate_backend(pid) {_SESSIONS}".encode(), [role])
        if not _sessions(connection, role):
            return
        if time.monotonic() > deadline:
            raise OutcomeUnknown("its sessions do not end", where=connection.info.dbname)
        time.sleep(_PAUSE_S)


def _take(connection: psycopg.Connection, access: Sequence[RoleAccess]) -> psycopg.Error | None:
    """All that is recorded, what rests upon others first. Returns what the server refused: it may be gone already."""
    refused = None
    for one in access:
        for membership in one.memberships:
            _do(connection, "", statements.leave(membership), gone_is_good=True)
        for grant in reversed(one.grants):
            try:
                _change(connection, grant, give=False)
            except errors.InsufficientPrivilege as error:
                refused = error
    return refused


def _change(connection: psycopg.Connection, grant: Grant, *, give: bool) -> None:
    """Give or take one right, as the role that gave it. Nothing where its object is gone and it is to be taken."""
    routine = acls.signature(connection, grant.object[0]) if grant.kind == "ROUTINE" else ""
    if routine is None:
        if give:
            raise errors.UndefinedFunction(f"there is no {grant.object[0]}")
        return
    _do(
        connection, grant.grantor, (statements.give if give else statements.take)(grant, routine), gone_is_good=not give
    )


def _give(connection: psycopg.Connection, one: Membership | Grant) -> str:
    """Give it back. Returns why that cannot be, empty when it is."""
    try:
        with connection.transaction():
            if isinstance(one, Grant):
                _change(connection, one, give=True)
            else:
                _do(connection, "", statements.join(one))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return error.diag.message_primary or str(error)
    return ""


def _do(connection: psycopg.Connection, grantor: str, statement: sql.Composed, *, gone_is_good: bool = False) -> None:
    """Run a statement as the role that granted: else the server would note another one as grantor."""
    try:
        with connection.transaction():
            if grantor:
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(grantor)))
            connection.execute(statement)
            if grantor:  # the end of a savepoint does not bring the role back, only that of the transaction
                connection.execute("RESET ROLE")
    except _GONE:
        if not gone_is_good:
            raise


def _shown(one: Membership | Grant) -> str:
    """For people: `SELECT on TABLE public.orders to deploy`."""
    if isinstance(one, Membership):
        return f"{one.member} as a member of {one.group}"
    what = f"{one.kind} {'.'.join(filter(None, one.object))}" + (f" ({one.column})" if one.column else "")
    return f"{one.privilege} on {what} to {one.grantee or 'PUBLIC'}"
