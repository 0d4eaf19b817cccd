"""Statements that give and take rights in PostgreSQL, from what the core knows of them. Names are always quoted."""

from __future__ import annotations

import re

from psycopg import sql

from irflow.core.databases import EVERYBODY, Grant, Membership

DEFAULT = "DEFAULT "
"""What the kind begins with where the right is one to objects that are yet to be made."""
_QUALIFIED = ("TABLE", "SEQUENCE", "TYPE")
_NAMED = ("SCHEMA", "LANGUAGE", "FOREIGN DATA WRAPPER", "FOREIGN SERVER", "DATABASE", "TABLESPACE")
_WORDS = re.compile(r"[A-Z]+( [A-Z]+)*")


def give(grant: Grant, routine: str = "") -> sql.Composed:
    """GRANT for one right. routine: its signature as the server wrote it, for a right to one.

    Raises ValueError for what is no right of PostgreSQL.
    """
    option = sql.SQL(" WITH GRANT OPTION" if grant.grantable else "")
    return _statement(grant, "GRANT", sql.SQL("TO ") + _role(grant.grantee) + option, routine)


def take(grant: Grant, routine: str = "") -> sql.Composed:
    """REVOKE for one right, and for whatever rests upon it."""
    return _statement(grant, "REVOKE", sql.SQL("FROM ") + _role(grant.grantee) + sql.SQL(" CASCADE"), routine)


def join(membership: Membership) -> sql.Composed:
    """GRANT that makes a role a member of another one."""
    said = {"ADMIN": membership.admin, "INHERIT": membership.inherits, "SET": membership.sets}
    if membership.inherits is None:  # before PostgreSQL 16
        options = " WITH ADMIN OPTION" if membership.admin else ""
    else:
        options = " WITH " + ", ".join(f"{name} {str(bool(value)).upper()}" for name, value in said.items())
    names = sql.Identifier(membership.group), sql.Identifier(membership.member)
    return sql.SQL("GRANT {} TO {}").format(*names) + sql.SQL(options) + _granted_by(membership)


def leave(membership: Membership) -> sql.Composed:
    """REVOKE for a membership, and for those that rest upon it."""
    names = sql.Identifier(membership.group), sql.Identifier(membership.member)
    by = sql.SQL("") if membership.inherits is None else _granted_by(membership)  # PostgreSQL 15 keeps one, whoever
    return sql.SQL("REVOKE {} FROM {}").format(*names) + by + sql.SQL(" CASCADE")


def _granted_by(membership: Membership) -> sql.Composable:
    if not membership.grantor:
        return sql.SQL("")
    return sql.SQL(" GRANTED BY {}").format(sql.Identifier(membership.grantor))


def _statement(grant: Grant, verb: str, rest: sql.Composable, routine: str) -> sql.Composed:
    privilege: sql.Composable = sql.SQL(_word(grant.privilege))
    if grant.column:
        privilege = sql.SQL("{} ({})").format(privilege, sql.Identifier(grant.column))
    if grant.kind.startswith(DEFAULT):
        owner, schema = grant.object
        head = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}").format(sql.Identifier(owner))
        within = sql.SQL(" IN SCHEMA {} ").format(sql.Identifier(schema)) if schema else sql.SQL(" ")
        on: sql.Composable = sql.SQL(_word(grant.kind.removeprefix(DEFAULT)))
        return head + within + sql.SQL("{} {} ON {} ").format(sql.SQL(verb), privilege, on) + rest
    return sql.SQL("{} {} ON {} ").format(sql.SQL(verb), privilege, _object(grant, routine)) + rest


def _object(grant: Grant, routine: str) -> sql.Composable:
    if grant.kind == "ROUTINE":
        return sql.SQL("ROUTINE ") + sql.SQL(routine)  # as the server wrote it
    if grant.kind == "LARGE OBJECT":
        return sql.SQL("LARGE OBJECT {}").format(sql.Literal(int(grant.object[0])))
    if grant.kind == "PARAMETER":
        return sql.SQL("PARAMETER {}").format(sql.Identifier(*grant.object[0].split(".")))
    if len(grant.object) != (2 if grant.kind in _QUALIFIED else 1) or grant.kind not in (*_QUALIFIED, *_NAMED):
        raise ValueError(f"no right is one to {grant.kind} {grant.object}")
    return sql.SQL("{} {}").format(sql.SQL(grant.kind), sql.Identifier(*grant.object))


def _role(name: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if name == EVERYBODY else sql.Identifier(name)


def _word(text: str) -> str:
    if not _WORDS.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is no word of SQL")
    return text
