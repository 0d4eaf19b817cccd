"""The recovery of a data breach: every secret is replaced, and the accounts of the incident are closed in databases."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from irflow.core.playbook import Phase
from irflow.core.status import State
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from irflow.wiring import load
from irflow.wiring.secrets import secret_document
from tests.cli.conftest import run
from tests.integration.cli_site import FIRST, Desk, desk
from tests.services.postgres import PostgresServer, running_postgres

pytestmark = pytest.mark.timeout(300)
ROLES = ("shop", "report")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as one:
        (one.data / "pg_hba.conf").write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        one.execute("SELECT pg_reload_conf()")
        one.execute("CREATE TABLE cards (number text)")
        for role in ROLES:
            one.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'stolen-{role}'")
            one.execute(f"GRANT SELECT ON cards TO {role}")
        yield one


@pytest.fixture(scope="module")
def here(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("breach")
    with Lab.up(1, folder / "run", level=Level.ROOT) as lab:
        made = desk(folder / "home", lab)
        up = made.irflow("vault", "up", "--json")
        assert up.code == 0, up.err
        password = secrets.token_hex(16)
        postgres.execute(f"CREATE ROLE keeper SUPERUSER LOGIN PASSWORD '{password}'")
        key = made.home / "keys" / "keeper"
        key.write_text(password)
        key.chmod(0o600)
        where = {"host": str(postgres.socket), "user": "keeper", "password": "file:keys/keeper"}
        made.edit(
            "irflow.yaml",
            lambda data: data.update(vault=up.json, databases={"shop": where}, responder={"claim_stale": "1s"}),
        )
        target = {"kind": "postgresql", "host": str(postgres.socket), "admin": "keeper", "admin_secret": f"file:{key}"}
        kept = {
            role: {"reference": f"vault:irflow/{role}/db#password", "target": {**target, "role": role}}
            for role in ROLES
        }  # fmt: skip
        (made.home / "secrets.yaml").write_text(json.dumps({"secrets": kept}))
        for role in ROLES:
            command = [sys.executable, "-m", "irflow", "--home", str(made.home), "secrets", "put", role]
            subprocess.run(command, input=f"stolen-{role}\n", text=True, check=True, timeout=60, capture_output=True)
        taken = made.irflow("run", "baseline", "--param", "hosts=web-1", "--local", "--yes", "--as", FIRST)
        assert taken.code == 0, taken.err
        yield made
        assert run(made.home, "vault", "down").out == "stopped\n"


def reads(postgres: PostgresServer, role: str, password: str) -> str:
    """What a log-in with the password gets: `cards`, or why not."""
    try:
        with psycopg.connect(host=str(postgres.socket), dbname="postgres", user=role, password=password) as one:
            one.execute("SELECT * FROM cards")
            return "cards"
    except psycopg.Error as error:
        return str(error).strip().rpartition("FATAL:  ")[2]


def live(here: Desk, name: str) -> str:
    config = load(here.home)
    return secret_document(config.settings, config.secrets.get(name)).read().live.reveal().decode()


def test_every_password_is_replaced_and_the_roles_of_the_incident_are_closed_and_can_be_given_back(
    here: Desk, postgres: PostgresServer
) -> None:
    assert [reads(postgres, role, f"stolen-{role}") for role in ROLES] == ["cards", "cards"]
    number = here.alert("web-1", severity="critical", type="data_breach", accounts=["report"])
    here.go_through(number, Phase.DETECTION)
    here.go_through(number, Phase.CONTAINMENT)
    here.go_through(number, Phase.RECOVERY, undo=False)
    assert ["password authentication failed" in reads(postgres, role, f"stolen-{role}") for role in ROLES] == [True] * 2
    assert reads(postgres, "shop", live(here, "shop")) == "cards"
    assert "is not permitted to log in" in reads(postgres, "report", live(here, "report"))
    shown = here.irflow("incidents", "show", number, "--json").json
    steps = {key: one for key, one in _steps(shown).items() if "restrict" in key}
    assert steps, shown
    undone = here.irflow("undo", number, "--yes", "--as", FIRST, "--step", next(iter(steps)))
    assert undone.code == 0, undone.err
    assert reads(postgres, "report", live(here, "report")) == "cards"
    assert here.irflow("journal", "verify", number).code == 0


@pytest.mark.parametrize("fault", ["after:step.intent#1", "before:step.outcome#1"])
def test_killed_while_it_closes_a_role_it_goes_on_and_everything_can_be_given_back(
    here: Desk, postgres: PostgresServer, fault: str
) -> None:
    known = {one["number"] for one in here.irflow("incidents", "list", "--json").json}
    asked = ("run", "restrict-databases", "--param", "accounts=shop", "--local", "--yes", "--as", FIRST)
    command = [sys.executable, "-m", "irflow", "--home", str(here.home), *asked]
    killed = subprocess.run(command, env={**os.environ, "IRFLOW_FAULT": fault}, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (number,) = {one["number"] for one in here.irflow("incidents", "list", "--json").json} - known
    done = here.work(number, "run-1")
    assert {one.state for one in done.steps.values()} <= {State.DONE, State.NOOP}
    assert "is not permitted to log in" in reads(postgres, "shop", live(here, "shop"))
    assert here.irflow("undo", number, "--yes", "--as", FIRST).code == 0
    assert reads(postgres, "shop", live(here, "shop")) == "cards"


def test_doctor_says_whether_roles_can_be_closed(here: Desk, postgres: PostgresServer) -> None:
    def found() -> dict[str, object]:
        (one,) = [one for one in here.irflow("doctor", "--json").json if one["what"] == "database shop"]
        return dict(one)

    assert found()["passed"]
    assert str(found()["found"]).startswith("keeper, superuser, PostgreSQL ")
    postgres.execute("ALTER ROLE keeper NOLOGIN")
    try:
        assert not found()["passed"]
    finally:
        postgres.execute("ALTER ROLE keeper LOGIN")


def _steps(shown: dict[str, object]) -> dict[str, object]:
    found = shown["steps"]
    assert isinstance(found, list)
    return {one["key"]: one for one in found}
