"""Roles of a real PostgreSQL are closed, as attackers and bystanders see it, and given back exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from irflow.actions.database_restrict import DatabaseRestrict
from irflow.adapters.postgresql_access import PostgresqlDatabases, Way
from irflow.adapters.postgresql_login import Server
from irflow.adapters.secret_files import FileSecrets
from irflow.core.action import Change, Context, Proof
from irflow.core.errors import Refused, ServiceMissing
from irflow.core.secret import SecretRef
from tests.fakes.remote import context
from tests.services.postgres import running_postgres
from tests.services.shop_database import Shop, shop_in

pytestmark = pytest.mark.timeout(180)
ACTION = DatabaseRestrict()
READ = "SELECT card FROM orders"


@pytest.fixture(scope="module")
def password(tmp_path_factory: pytest.TempPathFactory) -> SecretRef:
    path = tmp_path_factory.mktemp("keys") / "keeper"
    path.write_text("the server asks for none")
    path.chmod(0o600)
    return SecretRef.parse(f"file:{path}")


@pytest.fixture(scope="module")
def running() -> Iterator[Shop]:
    with running_postgres() as server, shop_in(server) as one:
        yield one


@pytest.fixture
def shop(running: Shop) -> Shop:
    running.make()
    return running


@pytest.fixture
def databases(shop: Shop, password: SecretRef) -> PostgresqlDatabases:
    server = Server(host=str(shop.server.socket), database="shop")
    return PostgresqlDatabases({"shop": Way(server, "keeper", password)}, FileSecrets(), frozenset({"journal"}))


@pytest.fixture
def at(databases: PostgresqlDatabases) -> Context:
    return _with(context(), databases)


def _with(one: Context, databases: PostgresqlDatabases) -> Context:
    return replace(one, ports=replace(one.ports, databases=databases))


def restrict(at: Context, *accounts: str, **more: Any) -> tuple[tuple[Change, ...], Proof]:
    """What the engine does with an action."""
    params = ACTION.Params(accounts=accounts, **more)
    seen = ACTION.observe(params, at)
    changes = ACTION.plan(params, seen)
    applied = tuple(ACTION.apply(change, at) for change in changes)
    return changes, ACTION.verify(params, seen, applied, at)


def take_back(at: Context, changes: tuple[Change, ...]) -> None:
    for change in reversed(changes):
        proof = ACTION.undo(change, at)
        assert proof.passed, (proof.failed, proof.facts)


def test_a_closed_role_is_refused_its_sessions_end_and_others_do_not_notice(shop: Shop, at: Context) -> None:
    assert not shop.refusal("deploy")
    assert shop.can("helper", READ), "by leave of deploy"
    with suppress(psycopg.OperationalError), shop.log_in("deploy") as thief, shop.log_in("web") as bystander:
        changes, proof = restrict(at, "deploy")
        assert proof.passed
        assert "permitted to log in" in shop.refusal("deploy")
        with pytest.raises(psycopg.OperationalError):
            thief.execute("SELECT 1")
        assert bystander.execute("SELECT card FROM orders").fetchone() == ("4242",)
    assert "1 session," in changes[0].summary
    statements = {
        "deploy": [READ, "SELECT nextval('numbers')", "CALL tidy('x')", "SELECT * FROM ids",
                   "CREATE TABLE inner_part.mine ()", "SET log_statement = 'ddl'", "SELECT rolname FROM pg_authid",
                   "SELECT lo_get(4242)", "GRANT readers TO web"],
        "helper": [READ, "UPDATE orders SET card = ''"],
        "friend": ["SELECT id FROM orders", "SELECT * FROM ids"],
    }  # fmt: skip
    left = [f"{role}: {one}" for role, every in statements.items() for one in every if shop.can(role, one)]
    assert left == []
    assert shop.can("web", READ)
    assert shop.can("web", "SELECT * FROM ids"), "a reader by somebody else's leave"
    assert proof.facts["runs_as_it"] == ["shop: public.as_deploy()"]
    take_back(at, changes)
    gone = [f"{role}: {one}" for role, every in statements.items() for one in every if not shop.can(role, one)]
    assert gone == []


def test_taken_back_everything_is_as_before_grantor_by_grantor(shop: Shop, at: Context) -> None:
    before = shop.dump()
    changes, proof = restrict(at, "deploy", "helper", 'Sue "x" O\'Neil', "nobody-here")
    assert proof.passed
    assert proof.facts["no_role"] == ["nobody-here"]
    closed = shop.dump()
    assert not [line for line in closed if line.startswith("GRANT") and (" TO deploy" in line or " TO helper" in line)]
    assert sum((before - closed).values()) > 30
    take_back(at, changes)
    assert shop.dump() == before
    take_back(at, changes)
    assert shop.dump() == before, "once more changes nothing"


def test_what_was_never_closed_is_taken_back_without_a_change(shop: Shop, at: Context) -> None:
    before = shop.dump()
    params = ACTION.Params(accounts=("deploy",))
    changes = ACTION.plan(params, ACTION.observe(params, at))
    take_back(at, changes)
    assert shop.dump() == before


def test_a_second_look_at_a_closed_role_finds_nothing_to_do(shop: Shop, at: Context) -> None:
    restrict(at, "deploy")
    changes, proof = restrict(at, "deploy")
    assert changes == ()
    assert proof.passed


class Cut(Exception):
    """Where a process dies, or its connection."""


def _cut(patch: pytest.MonkeyPatch, at: int) -> None:
    """The connection is lost at this statement, counted from now."""
    real, count = psycopg.Connection.execute, iter(range(10_000))

    def execute(self: psycopg.Connection, *args: Any, **kwargs: Any) -> Any:
        if next(count) == at:
            self.close()
            raise Cut
        return real(self, *args, **kwargs)

    patch.setattr(psycopg.Connection, "execute", execute)


def test_cut_at_any_statement_it_goes_on_and_is_taken_back_exactly(
    shop: Shop, databases: PostgresqlDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, params, done = shop.dump(), ACTION.Params(accounts=("deploy", "helper")), False
    for number in range(0, 400, 13):
        at = _with(context(), databases)  # with a minute of its own
        (first,) = ACTION.plan(params, ACTION.observe(params, at))
        with monkeypatch.context() as patch:
            _cut(patch, number)
            try:
                ACTION.apply(first, at)
                done = True
            except Cut:
                pass
        second, proof = restrict(at, "deploy", "helper")
        assert proof.passed, number
        for change in (*second, first):
            with monkeypatch.context() as patch, suppress(Cut):
                _cut(patch, number)
                ACTION.undo(change, at)
        take_back(at, (first, *second))
        assert shop.dump() == before, number
        if done:
            break
    assert done, "every statement had its turn"


def test_what_is_gone_meanwhile_is_named_and_the_rest_comes_back(shop: Shop, at: Context) -> None:
    changes, _ = restrict(at, "deploy")
    for statement in ("DROP TABLE inner_part.things", "DROP PROCEDURE tidy", "DROP ROLE friend"):
        with suppress(psycopg.errors.DependentObjectsStillExist):
            shop.server.execute(statement, "shop")
    proof = ACTION.undo(changes[0], at)
    assert not proof.passed
    assert "missing" in proof.checks[0].after
    said = "\n".join(proof.facts["not_given_back"])
    assert "inner_part.things" in said
    assert "tidy" in said
    assert shop.can("deploy", READ)
    assert not shop.refusal("deploy")


def test_what_somebody_grants_meanwhile_is_newer_and_stays(shop: Shop, at: Context) -> None:
    changes, _ = restrict(at, "deploy")
    shop.server.execute("GRANT TRUNCATE ON orders TO deploy", "shop")
    params = ACTION.Params(accounts=("deploy",))
    assert not ACTION.verify(params, ACTION.observe(params, at), (), at).passed, "it is not closed any more"
    take_back(at, changes)
    assert shop.can("deploy", "TRUNCATE orders")


@pytest.mark.parametrize(
    ("role", "why"),
    [("keeper", "irflow itself needs it"), ("journal", "irflow itself needs it"), ("pg_monitor", "the server's own"),
     ("irflow", "nobody could mend")],
)  # fmt: skip
def test_roles_without_which_nobody_gets_in_are_never_closed(shop: Shop, at: Context, role: str, why: str) -> None:
    if role == "journal":
        shop.server.execute("CREATE ROLE journal LOGIN")
    with pytest.raises(Refused, match=why):
        restrict(at, "deploy", role)
    assert not shop.refusal("deploy")
    shop.server.execute("DROP ROLE IF EXISTS journal")


def test_a_database_that_is_down_keeps_no_role_open_in_another_one(
    shop: Shop, databases: PostgresqlDatabases, password: SecretRef, tmp_path: Path
) -> None:
    down = Way(Server(host=str(tmp_path)), "keeper", password)
    here = _with(context(), replace(databases, ways={"down": down, **databases.ways}))
    _, proof = restrict(here, "deploy")
    assert proof.failed == ("down can be reached",)
    assert "permitted to log in" in shop.refusal("deploy")
    with pytest.raises(ServiceMissing, match="no connection as keeper"):
        here.ports.databases.look("down", ["deploy"], timeout_s=5)


def test_a_user_who_may_not_do_it_is_told_what_it_needs(
    shop: Shop, databases: PostgresqlDatabases, password: SecretRef
) -> None:
    weak = Way(databases.ways["shop"].server, "web", password)
    here = _with(context(), replace(databases, ways={"shop": weak}))
    _, proof = restrict(here, "deploy")
    assert not proof.passed
    assert "web must be a superuser" in proof.checks[0].after
    assert not shop.refusal("deploy")


def test_a_server_that_refuses_keeps_no_role_open_in_another_database(
    shop: Shop, databases: PostgresqlDatabases, password: SecretRef
) -> None:
    weak = Way(databases.ways["shop"].server, "web", password)
    here = _with(context(), replace(databases, ways={"weak": weak, **databases.ways}))
    _, proof = restrict(here, "deploy")
    assert "permitted to log in" in shop.refusal("deploy")
    assert proof.passed, "both are the same database"


def test_a_password_that_cannot_be_read_keeps_no_role_open_in_another_database(
    shop: Shop, databases: PostgresqlDatabases, tmp_path: Path
) -> None:
    lost = Way(databases.ways["shop"].server, "keeper", SecretRef.parse(f"file:{tmp_path}/none"))
    here = _with(context(), replace(databases, ways={"lost": lost, **databases.ways}))
    _, proof = restrict(here, "deploy")
    assert proof.failed == ("lost can be reached",)
    assert "permitted to log in" in shop.refusal("deploy")


def test_a_database_nobody_named_is_refused_with_those_there_are(at: Context) -> None:
    with pytest.raises(Refused, match="There are shop"):
        restrict(at, "deploy", databases=("stock",))


def test_without_any_database_there_is_nothing_to_close() -> None:
    changes, proof = restrict(context(), "deploy")
    assert changes == ()
    assert proof.passed
    assert "names no database" in proof.note
