"""What PostgreSQL's catalogs say about who may do what (PostgreSQL 15 Documentation, 5.7 Privileges, 53 Catalogs)."""

from __future__ import annotations

from collections.abc import Collection

import psycopg

from irflow.adapters.postgresql_grants import DEFAULT
from irflow.core.databases import Grant, Membership

_WITH_PARAMETERS = 150000
_WITH_MEMBER_OPTIONS = 160000

_ACLS = """
SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, ARRAY[n.nspname, c.relname]::text[], '', c.relacl
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
UNION ALL SELECT 'TABLE', ARRAY[n.nspname, c.relname]::text[], a.attname, a.attacl
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT a.attisdropped
UNION ALL SELECT 'TYPE', ARRAY[n.nspname, t.typname]::text[], '', t.typacl
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
UNION ALL SELECT 'ROUTINE', ARRAY[oid::regprocedure::text], '', proacl FROM pg_proc
UNION ALL SELECT 'SCHEMA', ARRAY[nspname]::text[], '', nspacl FROM pg_namespace
UNION ALL SELECT 'LANGUAGE', ARRAY[lanname]::text[], '', lanacl FROM pg_language
UNION ALL SELECT 'FOREIGN DATA WRAPPER', ARRAY[fdwname]::text[], '', fdwacl FROM pg_foreign_data_wrapper
UNION ALL SELECT 'FOREIGN SERVER', ARRAY[srvname]::text[], '', srvacl FROM pg_foreign_server
UNION ALL SELECT 'LARGE OBJECT', ARRAY[oid::text], '', lomacl FROM pg_largeobject_metadata
UNION ALL SELECT 'DATABASE', ARRAY[datname]::text[], '', datacl FROM pg_database
UNION ALL SELECT 'TABLESPACE', ARRAY[spcname]::text[], '', spcacl FROM pg_tablespace
UNION ALL SELECT '{default}' || CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
    WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
    ARRAY[pg_get_userbyid(d.defaclrole), COALESCE(n.nspname, '')]::text[], '', d.defaclacl
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
""".replace("{default}", DEFAULT)
_PARAMETERS = "UNION ALL SELECT 'PARAMETER', ARRAY[parname], '', paracl FROM pg_parameter_acl"
# An object nobody gave anybody rights to has no list. A right to a table may be handed on as one to a column, which
# then stands in that column's list: so all lists of an object count where one of them names a role that is meant.
_GRANTS = """
WITH lists(kind, object, col, acl) AS ({acls}),
     meant AS (SELECT DISTINCT kind, object FROM lists, aclexplode(acl) WHERE grantee = ANY(%(roles)s))
SELECT kind, object, col, privilege_type, CASE WHEN grantee = 0 THEN '' ELSE pg_get_userbyid(grantee)::text END,
       pg_get_userbyid(grantor)::text, is_grantable
  FROM lists JOIN meant USING (kind, object), aclexplode(acl) ORDER BY 1, 2, 3, 4, 6, 5
"""
_MEMBERSHIPS = """
SELECT pg_get_userbyid(m.roleid)::text, pg_get_userbyid(m.member)::text, COALESCE(g.rolname::text, ''), m.admin_option,
       {options}
  FROM pg_auth_members m LEFT JOIN pg_roles g ON g.oid = m.grantor ORDER BY 1, 2, 3
"""
_OWNS = """
SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s AND deptype = 'o'
   AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


def grants(connection: psycopg.Connection, roles: Collection[int]) -> list[Grant]:
    """Every right on each object to which one of the roles (by number) has one."""
    acls = _ACLS + (_PARAMETERS if connection.info.server_version >= _WITH_PARAMETERS else "")
    rows = connection.execute(_GRANTS.replace("{acls}", acls).encode(), {"roles": list(roles)}).fetchall()
    keys = ("kind", "object", "column", "privilege", "grantee", "grantor", "grantable")
    return [Grant(**dict(zip(keys, row, strict=True))) for row in rows]


def memberships(connection: psycopg.Connection) -> list[Membership]:
    """Who is a member of whom, on the whole server."""
    known = connection.info.server_version >= _WITH_MEMBER_OPTIONS
    options = "m.inherit_option, m.set_option" if known else "NULL, NULL"
    keys = ("group", "member", "grantor", "admin", "inherits", "sets")
    rows = connection.execute(_MEMBERSHIPS.replace("{options}", options).encode()).fetchall()
    return [Membership(**dict(zip(keys, row, strict=True))) for row in rows]


def owns(connection: psycopg.Connection, role: int) -> int:
    """How many objects of this database, and of the server's common ones, are a role's own."""
    row = connection.execute(_OWNS, [role]).fetchone()
    return int(row[0]) if row else 0


def runs_as(connection: psycopg.Connection, role: int) -> tuple[str, ...]:
    """Routines of this database that run with a role's rights, whoever calls them."""
    statement = "SELECT oid::regprocedure::text FROM pg_proc WHERE prosecdef AND proowner = %s ORDER BY 1"
    return tuple(row[0] for row in connection.execute(statement, [role]).fetchall())


def signature(connection: psycopg.Connection, routine: str) -> str | None:
    """A routine's signature as the server itself writes it; None where there is no such routine."""
    row = connection.execute("SELECT to_regprocedure(%s)::text", [routine]).fetchone()
    return row[0] if row else None
