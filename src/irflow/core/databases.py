"""Who may do what in databases, so that it can be taken away and given back exactly."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from irflow.core.errors import Refused
from irflow.core.model import Noun

EVERYBODY = ""
"""The grantee PUBLIC: no role can be called so."""


class Grant(Noun):
    """One privilege on one object, as one grantor gave it to one role.

    kind, object, column: what it is on; the names without quotes. grantable: it may be handed on.
    """

    kind: str
    object: tuple[str, ...]
    column: str = ""
    privilege: str
    grantee: str
    grantor: str
    grantable: bool = False


class Membership(Noun):
    """A role that is a member of another one. grantor: empty where nobody can say.

    inherits, sets: None where the server does not tell them apart (before PostgreSQL 16).
    """

    group: str
    member: str
    grantor: str = ""
    admin: bool = False
    inherits: bool | None = None
    sets: bool | None = None


class RoleAccess(Noun):
    """What one role can do, as the database says.

    login: it may log in. sessions: its connections to the whole server. grants, memberships: its own, then those that
    it handed on and that go with them. owns: how many objects are its own; their owner keeps all rights, without a
    login to use them. runs_as_it: routines that others run with its rights. members: roles that have its rights.
    """

    role: str
    login: bool
    sessions: int
    grants: tuple[Grant, ...] = ()
    memberships: tuple[Membership, ...] = ()
    owns: int = 0
    runs_as_it: tuple[str, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether nothing is left to take away."""
        return not (self.login or self.sessions or self.grants or self.memberships)

    @property
    def shown(self) -> str:
        """For people: `no login, 0 sessions, 0 grants, 0 memberships`."""
        login = "login" if self.login else "no login"
        memberships = _count(len(self.memberships), "membership")
        return f"{login}, {_count(self.sessions, 'session')}, {_count(len(self.grants), 'grant')}, {memberships}"


class Databases(Protocol):
    """The databases that irflow.yaml names, as a user who may change what roles can do in them.

    All raise ServiceMissing (no connection), Refused (the server does not let irflow do it) and OutcomeUnknown (the
    connection was lost). timeout_s: wall clock.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """As irflow.yaml has them."""
        ...

    def look(self, database: str, roles: Collection[str], *, timeout_s: float) -> tuple[RoleAccess, ...]:
        """Over a new connection: those of the roles that exist. Refused for one that must never be closed."""
        ...

    def close(self, database: str, access: Sequence[RoleAccess], *, timeout_s: float) -> None:
        """No login, no session, no grant and no membership for these roles any more; safe to do twice."""
        ...

    def give_back(self, database: str, access: Sequence[RoleAccess], *, timeout_s: float) -> tuple[str, ...]:
        """What `look` had found before, the login last; safe to do twice, and if nothing was taken away.

        Returns what could not be given back, in words; all else is.
        """
        ...


class NoDatabases:
    """Where irflow.yaml names none."""

    @property
    def names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def look(self, database: str, roles: Collection[str], *, timeout_s: float) -> tuple[RoleAccess, ...]:
        """Refused."""
        raise _none(database)

    def close(self, database: str, access: Sequence[RoleAccess], *, timeout_s: float) -> None:
        """Refused."""
        raise _none(database)

    def give_back(self, database: str, access: Sequence[RoleAccess], *, timeout_s: float) -> tuple[str, ...]:
        """Refused."""
        raise _none(database)


NO_DATABASES = NoDatabases()


def grants_that_go(role: str, entries: Iterable[Grant]) -> tuple[Grant, ...]:
    """The grants of a role, and those that rest upon them: each behind the one that it rests upon.

    entries: all that are on the same objects. What a role has as an object's owner is no grant: its grantor is itself.
    """
    known, found = list(entries), dict[Grant, None]()
    todo = [one for one in known if one.grantee == role and one.grantor != role]
    while todo:
        one = todo.pop(0)
        if one in found:
            continue
        found[one] = None
        todo += [other for other in known if other.grantor == one.grantee and _same_right(one, other)]
    return tuple(found)


def memberships_that_go(role: str, entries: Iterable[Membership]) -> tuple[Membership, ...]:
    """The memberships of a role, and those that it handed on, and so on."""
    known, found = list(entries), dict[Membership, None]()
    todo = [one for one in known if one.member == role]
    while todo:
        one = todo.pop(0)
        if one in found:
            continue
        found[one] = None
        todo += [other for other in known if other.group == one.group and other.grantor == one.member]
    return tuple(found)


def _same_right(one: Grant, other: Grant) -> bool:
    """Whether the second may rest upon the first. A right to a table is one to each of its columns too."""
    if (one.kind, one.object, one.privilege) != (other.kind, other.object, other.privilege):
        return False
    return one.grantable and one.column in ("", other.column) and other.grantor != other.grantee


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _none(database: str) -> Refused:
    return Refused(f"irflow knows no database {database}", where="irflow.yaml", hint="Name it under databases:")
