"""`database.restrict`: close the roles of accounts in databases: no login, no session, no grant, no membership."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field, field_validator

from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.databases import RoleAccess
from irflow.core.errors import IrflowError, OutcomeUnknown, Refused
from irflow.core.model import Json

_CALL_S = 60.0
"""The most one database gets of the step's time."""
_MOST = 100
_SHOWN = 5


class RestrictParams(Params):
    """accounts: the roles to close. databases: names as in irflow.yaml; all of them without any."""

    accounts: tuple[str, ...] = Field(min_length=1, max_length=_MOST)
    databases: tuple[str, ...] = ()

    @field_validator("accounts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not 0 < len(name.encode()) < 64 or "\0" in name:  # NAMEDATALEN - 1 bytes; a longer one would be cut
                raise ValueError(f"{name[:100]!r} is not the name of a role")
        return tuple(dict.fromkeys(value))


class DatabaseRestrict(Action[RestrictParams]):
    """Close roles: they log in no more, their sessions end, and what they were granted is taken from them.

    What they handed on to others goes with it. Undo gives back exactly what was there, grantor by grantor. What a role
    owns stays its own; routines that others run with its rights are named for a person to look at.
    """

    name: ClassVar[str] = "database.restrict"
    summary: ClassVar[str] = "Close roles in PostgreSQL: login, sessions, grants and memberships; undo restores them"
    Params: ClassVar[type[Any]] = RestrictParams
    touches_host: ClassVar[bool] = False

    def observe(self, params: RestrictParams, context: Context) -> dict[str, Json]:
        """What the roles can do in each database.

        A database that cannot be reached keeps no role open in another one; verify names it. Raises Refused for
        a database that irflow does not know, and for roles that must never be closed.
        """
        known = context.ports.databases.names
        strange = [name for name in params.databases if name not in known]
        if strange:
            hint = f"There are {', '.join(known)}" if known else "Name it under databases:"
            raise Refused(f"irflow knows no database {', '.join(strange)}", where="irflow.yaml", hint=hint)
        found: dict[str, Json] = {}
        missing: dict[str, str] = {}
        for name in params.databases or known:
            try:
                found[name] = [one.model_dump(mode="json") for one in _look(context, name, params.accounts)]
            except Refused:
                raise
            except IrflowError as error:
                missing[name] = str(error)
        return {"databases": found, "missing": missing}

    def plan(self, params: RestrictParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for each database in which a role can still do something."""
        changes = []
        for name, roles in seen["databases"].items():
            access = [RoleAccess.model_validate(one) for one in roles]
            open_ones = [one for one in access if not one.closed]
            if open_ones:
                data = {"database": name, "roles": [one.model_dump(mode="json") for one in open_ones]}
                changes.append(Change(f"close {'; '.join(map(_summary, open_ones))}, in {name}", data))
        return tuple(changes)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Close them in one database. Where the server refuses, the others are closed all the same; verify names it."""
        database, access = change.data["database"], _roles(change)
        try:
            context.ports.databases.close(database, access, timeout_s=_time(context))
        except OutcomeUnknown:
            raise
        except IrflowError as error:
            return {"database": database, "ended": 0, "refused": str(error)}
        return {"database": database, "ended": sum(one.sessions for one in access)}

    def verify(
        self, params: RestrictParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Look over new connections."""
        checks = [Check(f"{name} can be reached", False, "", said) for name, said in seen["missing"].items()]
        facts: dict[str, Json] = {"databases": {}, "runs_as_it": [], "owns": {}}
        refused = {one["database"]: one["refused"] for one in applied if "refused" in one}
        there: set[str] = set()
        for name, roles in seen["databases"].items():
            before = {one["role"]: RoleAccess.model_validate(one).shown for one in roles}
            for one in _look(context, name, params.accounts):
                there.add(one.role)
                said = one.shown + (f": {refused[name]}" if name in refused and not one.closed else "")
                checks.append(Check(f"{one.role} is closed in {name}", one.closed, before.get(one.role, ""), said))
                facts["databases"].setdefault(name, {})[one.role] = one.shown
                facts["runs_as_it"] += [f"{name}: {routine}" for routine in one.runs_as_it]
                facts["owns"] |= {f"{name}: {one.role}": one.owns} if one.owns else {}
        facts["no_role"] = [one for one in params.accounts if one not in there]
        where = ", ".join(seen["databases"]) or "irflow.yaml, which names no database"
        note = f"no role {' or '.join(facts['no_role'])} in {where}" if facts["no_role"] else ""
        return Proof(tuple(checks), facts, note=note)

    def undo(self, change: Change, context: Context) -> Proof:
        """Give everything back, and compare with what the journal has."""
        database, access = change.data["database"], _roles(change)
        left = context.ports.databases.give_back(database, access, timeout_s=_time(context))
        now = {one.role: one for one in _look(context, database, [one.role for one in access])}
        checks = [_restored(database, one, now.get(one.role)) for one in access]
        facts: dict[str, Json] = {"databases": {database: {name: one.shown for name, one in now.items()}}}
        return Proof(tuple(checks), {**facts, "not_given_back": list(left)} if left else facts)


def _restored(database: str, was: RoleAccess, now: RoleAccess | None) -> Check:
    """Whether all that a role had is there again. What somebody gave it meanwhile is newer, and stays."""
    name = f"{was.role} can do in {database} what it could"
    if now is None:
        return Check(name, False, was.shown, "the role is gone")
    lost = [*(set(was.grants) - set(now.grants)), *(set(was.memberships) - set(now.memberships))]
    said = f"{len(lost)} of its grants and memberships are missing" if lost else now.shown
    return Check(name, not lost and (now.login or not was.login), was.shown, said)


def _summary(one: RoleAccess) -> str:
    """`deploy (login, 2 sessions, 14 grants, 1 membership; 3 of these it handed on to others)`."""
    others = sum(grant.grantee != one.role for grant in one.grants)
    others += sum(membership.member != one.role for membership in one.memberships)
    notes = [
        *([f"{others} of these it handed on to others"] if others else []),
        *([f"{_named(one.members)} can do what it can, and will not"] if one.members and one.grants else []),
    ]
    return f"{one.role} ({'; '.join([one.shown, *notes])})"


def _named(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = len(every) - _SHOWN
    return ", ".join(every[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _roles(change: Change) -> list[RoleAccess]:
    return [RoleAccess.model_validate(one) for one in change.data["roles"]]


def _look(context: Context, database: str, roles: Iterable[str]) -> tuple[RoleAccess, ...]:
    return context.ports.databases.look(database, tuple(roles), timeout_s=_time(context))


def _time(context: Context) -> float:
    return min(_CALL_S, context.left())
