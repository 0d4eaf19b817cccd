"""A database in which a role has rights of every kind, and what anybody can see of it from outside."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.services.postgres import PostgresServer

ROLES = ("owner", "deploy", "web", "helper", "friend", 'Sue "x" O\'Neil')
"""owner has all objects, deploy is the one whose password leaked, web is a bystander; deploy gave rights to helper."""

SCHEMA = '''
CREATE ROLE owner LOGIN; CREATE ROLE deploy LOGIN; CREATE ROLE web LOGIN; CREATE ROLE helper LOGIN;
CREATE ROLE friend LOGIN; CREATE ROLE "Sue ""x"" O'Neil" LOGIN; CREATE ROLE readers; CREATE ROLE auditors;
GRANT ALL ON DATABASE shop TO owner; GRANT CREATE ON SCHEMA public TO owner;
CREATE FOREIGN DATA WRAPPER wrapper; GRANT USAGE ON FOREIGN DATA WRAPPER wrapper TO deploy;
CREATE SERVER far FOREIGN DATA WRAPPER wrapper; GRANT USAGE ON FOREIGN SERVER far TO deploy WITH GRANT OPTION;
GRANT USAGE ON LANGUAGE plpgsql TO deploy; GRANT CREATE ON TABLESPACE pg_default TO deploy;
GRANT SET, ALTER SYSTEM ON PARAMETER log_statement TO deploy;
GRANT SELECT ON pg_authid TO deploy;
GRANT readers TO deploy WITH ADMIN OPTION; GRANT auditors TO deploy; GRANT readers TO web;
SELECT lo_create(4242); GRANT SELECT, UPDATE ON LARGE OBJECT 4242 TO deploy;
GRANT CONNECT ON DATABASE shop TO deploy WITH GRANT OPTION; GRANT CREATE ON SCHEMA public TO deploy;
SET ROLE owner;
CREATE TABLE orders (id int, card text); INSERT INTO orders VALUES (1, '4242');
CREATE TABLE "Odd ""name""" (x int); CREATE SEQUENCE numbers; CREATE VIEW ids AS SELECT id FROM orders;
CREATE TYPE mood AS ENUM ('good'); CREATE DOMAIN small AS int;
CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';
CREATE PROCEDURE tidy(INOUT x text) LANGUAGE sql AS 'SELECT x';
CREATE SCHEMA inner_part CREATE TABLE things (x int);
REVOKE ALL ON ROUTINE add, tidy FROM PUBLIC; REVOKE USAGE ON TYPE mood FROM PUBLIC;
GRANT SELECT, INSERT ON orders TO deploy WITH GRANT OPTION; GRANT DELETE ON orders TO deploy;
GRANT UPDATE (card) ON orders TO deploy WITH GRANT OPTION; GRANT SELECT ON orders TO web;
GRANT ALL ON "Odd ""name""" TO deploy, "Sue ""x"" O'Neil"; GRANT USAGE ON SEQUENCE numbers TO deploy;
GRANT SELECT ON ids TO deploy, readers; GRANT USAGE ON TYPE mood TO deploy; GRANT USAGE ON TYPE small TO deploy;
GRANT EXECUTE ON FUNCTION add(int, int) TO deploy WITH GRANT OPTION; GRANT EXECUTE ON PROCEDURE tidy TO deploy;
GRANT USAGE, CREATE ON SCHEMA inner_part TO deploy; GRANT SELECT ON inner_part.things TO deploy;
ALTER DEFAULT PRIVILEGES IN SCHEMA inner_part GRANT SELECT ON TABLES TO deploy, web;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO deploy;
RESET ROLE; SET ROLE deploy;
GRANT SELECT ON orders TO helper WITH GRANT OPTION; GRANT INSERT ON orders TO PUBLIC; GRANT readers TO friend;
GRANT UPDATE (card) ON orders TO helper; GRANT SELECT (id) ON orders TO friend; GRANT EXECUTE ON FUNCTION add TO web;
GRANT USAGE ON FOREIGN SERVER far TO helper; GRANT CONNECT ON DATABASE shop TO friend;
CREATE TABLE its_own (x int); GRANT SELECT ON its_own TO web;
CREATE FUNCTION as_deploy() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
RESET ROLE; SET ROLE helper; GRANT SELECT ON orders TO friend; RESET ROLE;
'''


@dataclass(frozen=True)
class Shop:
    """The database `shop` of a server."""

    server: PostgresServer

    def make(self) -> None:
        """Anew, whatever there was."""
        self.clear()
        self.server.execute("CREATE DATABASE shop")
        self.server.execute(SCHEMA, "shop")

    def clear(self) -> None:
        """Drop it with its roles."""
        self.server.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        quoted = ['"' + one.replace('"', '""') + '"' for one in (*ROLES, "readers", "auditors")]
        with self.log_in("irflow", "postgres") as connection:
            known = {row[0] for row in connection.execute("SELECT quote_ident(rolname) FROM pg_roles").fetchall()}
            for one in quoted:
                if one in known or one.strip('"') in known:
                    connection.execute(f"DROP OWNED BY {one} CASCADE".encode())
                    connection.execute(f"DROP ROLE {one}".encode())

    def log_in(self, role: str, database: str = "shop") -> psycopg.Connection:
        """A session; the server asks for no password, so what is refused is refused to whoever has it."""
        return psycopg.connect(
            host=str(self.server.socket), dbname=database, user=role, autocommit=True, connect_timeout=5
        )

    def refusal(self, role: str) -> str:
        """What the server says to a log-in; empty when it lets it in."""
        try:
            self.log_in(role).close()
        except psycopg.OperationalError as error:
            return str(error).strip().splitlines()[-1].rpartition("FATAL:  ")[2]
        return ""

    def can(self, role: str, statement: str) -> bool:
        """Whether somebody with the rights of a role can do something."""
        with self.log_in("irflow") as connection:
            connection.execute(b'SET ROLE "' + role.encode() + b'"')
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement.encode())
            except psycopg.errors.InsufficientPrivilege:
                return False
        return True

    def dump(self) -> Counter[str]:
        """Every line of what pg_dumpall writes about roles and rights; in which order they were given is nobody's."""
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
        where = ["-h", str(self.server.socket), "-U", "irflow"]
        roles = subprocess.run(
            [programs / "pg_dumpall", *where, "--globals-only"], check=True, capture_output=True, text=True
        ).stdout
        rights = subprocess.run(
            [programs / "pg_dump", *where, "--schema-only", "--create", "shop"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        return Counter(line for line in (roles + rights).splitlines() if not line.startswith(("\\", "--")))


@contextmanager
def shop_in(server: PostgresServer) -> Iterator[Shop]:
    """The shop, with a second superuser `keeper` for irflow to log in as; both gone afterwards."""
    one = Shop(server)
    server.execute("CREATE ROLE keeper SUPERUSER LOGIN")
    try:
        one.make()
        yield one
    finally:
        one.clear()
        server.execute("DROP ROLE keeper")
