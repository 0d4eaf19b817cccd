"""`irflow secrets` and `irflow vault` as people type them, on a real Vault, database and host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from irflow.adapters.threads import ThreadExecutor
from irflow.core.journal import Kind
from irflow.core.phase import execute
from irflow.core.states import State
from irflow.drill.installation import install
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from irflow.wiring import load, open_runtime
from irflow.wiring.secrets import secret_document
from tests.cli.conftest import Done, run
from tests.integration.cli_site import FIRST
from tests.services.on_host import on
from tests.services.postgres import PostgresServer, running_postgres
from tests.test_readme import commands, headings

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Desk:
    """An installation that looks after the secrets of a shop."""

    home: Path
    lab: Lab
    postgres: PostgresServer

    def irflow(self, *arguments: str, stdin: str | None = None) -> Done:
        if stdin is None:
            return run(self.home, *arguments)
        done = subprocess.run(
            [sys.executable, "-m", "irflow", "--home", str(self.home), *arguments],
            input=stdin, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def gets_in(self, role: str, password: str) -> bool:
        try:
            psycopg.connect(host=str(self.postgres.socket), dbname="postgres", user=role, password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    def live(self, name: str) -> str:
        config = load(self.home)
        return secret_document(config.settings, config.secrets.get(name)).read().live.reveal().decode()

    def edit(self, change: Any) -> None:
        path = self.home / "secrets.yaml"
        data = json.loads(path.read_text())
        change(data["secrets"])
        path.write_text(json.dumps(data))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as one:
        yield one


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as one:
        (one.data / "pg_hba.conf").write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        one.execute("SELECT pg_reload_conf()")
        for role in ("shop", "report"):
            one.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'stolen-{role}'")
        yield one


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, lab: Lab) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("site") / "home"
    install(home, lab)
    up = run(home, "vault", "up", "--json")
    assert up.code == 0, up.err
    settings = json.loads((home / "irflow.yaml").read_text())
    (home / "irflow.yaml").write_text(json.dumps(settings | {"vault": up.json, "responder": {"claim_stale": "1s"}}))
    yield home
    assert run(home, "vault", "down").out == "stopped\n"
    assert run(home, "vault", "status").code == 7


@pytest.fixture(scope="module")
def desk(vault: Path, lab: Lab, postgres: PostgresServer) -> Desk:
    (vault / "keys" / "admin").write_text("not asked for")
    (vault / "keys" / "admin").chmod(0o600)
    on(lab, lab.hosts[0], "chpasswd", b"alice:stolen-alice\n")

    def role(name: str) -> dict[str, Any]:
        return {
            "kind": "postgresql", "host": str(postgres.socket), "role": name, "admin": "irflow",
            "admin_secret": f"file:{vault / 'keys' / 'admin'}",
        }  # fmt: skip

    secrets = {
        "shop-db": {"reference": "vault:irflow/shop/db#password", "target": role("shop"), "owner": "shop"},
        "report-db": {
            "reference": "vault:irflow/report/db#password", "target": role("report"), "after": ["shop-db"],
        },
        "alice": {
            "reference": "vault:irflow/web-1/alice#password",
            "target": {"kind": "unix_password", "host": "web-1", "account": "alice"}, "dependants": ["alice"],
        },
    }  # fmt: skip
    (vault / "secrets.yaml").write_text(json.dumps({"secrets": secrets}))
    made = Desk(vault, lab, postgres)
    for name, value in (("shop-db", "stolen-shop"), ("report-db", "stolen-report"), ("alice", "stolen-alice")):
        put = made.irflow("secrets", "put", name, stdin=value + "\n")
        assert put.code == 0, put.err
        assert value not in put.out + put.err
    return made


def test_the_secrets_are_listed_with_where_they_are_and_no_value_is_read(desk: Desk) -> None:
    listed = desk.irflow("secrets", "list", "--json").json
    assert [one["name"] for one in listed] == ["shop-db", "report-db", "alice"]
    assert "vault:irflow/shop/db#password" in desk.irflow("secrets", "list").out


def test_doctor_logs_in_to_vault(desk: Desk) -> None:
    (found,) = [one for one in desk.irflow("doctor", "--json").json if one["what"] == "Vault"]
    assert found["passed"], found
    assert "policies default, irflow" in found["found"]


def test_what_is_in_vault_already_is_never_replaced_by_put(desk: Desk) -> None:
    again = desk.irflow("secrets", "put", "shop-db", stdin="mine\n")
    assert again.code != 0
    assert "Vault has this document already. Nothing was changed" in again.err


def test_the_plan_says_the_order_and_who_is_refused_meanwhile(desk: Desk) -> None:
    groups = desk.irflow("secrets", "plan", "--json").json
    assert [[one["name"] for one in group] for group in groups] == [["alice", "shop-db"], ["report-db"]]
    assert not any(one["overlap"] for group in groups for one in group)


def test_after_all_were_rotated_the_stolen_values_are_dead_and_vaults_work(desk: Desk) -> None:
    assert desk.gets_in("shop", "stolen-shop")
    done = desk.irflow("secrets", "rotate-all", "--run", "one", "--json")
    assert done.code == 0, done.err
    assert {one["name"]: one["result"] for one in done.json} == dict.fromkeys(
        ("shop-db", "report-db", "alice"), "rotated"
    )
    assert all(one["gap_s"] > 0 for one in done.json)
    assert not desk.gets_in("shop", "stolen-shop")
    assert not desk.gets_in("report", "stolen-report")
    assert [one["result"] for one in desk.irflow("secrets", "verify", "--json").json] == ["works"] * 3
    again = desk.irflow("secrets", "rotate-all", "--run", "one", "--json")
    assert {one["result"] for one in again.json} == {"unchanged"}


def test_a_live_value_that_somebody_changed_elsewhere_does_not_verify(desk: Desk) -> None:
    desk.postgres.execute("ALTER ROLE shop PASSWORD 'elsewhere'")
    found = desk.irflow("secrets", "verify", "shop-db")
    assert found.code == 1
    assert "the live value is refused" in found.out
    assert desk.irflow("secrets", "rotate", "shop-db").code == 0
    assert not desk.gets_in("shop", "elsewhere")
    assert desk.irflow("secrets", "verify").code == 0


def test_what_waits_for_one_that_fails_is_not_tried_and_the_exit_code_says_so(desk: Desk) -> None:
    desk.postgres.execute("ALTER ROLE shop RENAME TO gone")
    try:
        done = desk.irflow("secrets", "rotate-all", "--json")
    finally:
        desk.postgres.execute("ALTER ROLE gone RENAME TO shop")
    assert done.code == 4
    assert {one["name"]: one["result"] for one in done.json}["report-db"] == "not tried"
    assert {one["name"]: one["result"] for one in done.json}["alice"] == "rotated"


def test_a_sweep_finds_nothing_to_finish(desk: Desk) -> None:
    assert desk.irflow("secrets", "rotate", "shop-db").code in (0, 1)
    desk.irflow("secrets", "sweep")
    assert {one["result"] for one in desk.irflow("secrets", "sweep", "--json").json} == {"unchanged"}


def test_what_an_incident_may_have_leaked_is_chosen_and_what_was_replaced_since_is_not(desk: Desk) -> None:
    assert desk.irflow("secrets", "rotate", "report-db").code == 0
    changed = {one["name"]: one["changed"] for one in desk.irflow("secrets", "list", "--json").json}
    leaked = changed["report-db"]
    assert leaked, changed
    while datetime.now(UTC).isoformat() <= leaked[:-1] + ".999999Z":  # a value's age is noted in whole seconds
        time.sleep(0.05)
    assert desk.irflow("secrets", "rotate", "alice").code == 0
    before = desk.live("alice")

    done = desk.irflow("secrets", "rotate", "--exposed-since", leaked[:-1] + ".999999Z", "--json")

    assert done.code == 0, done.err
    assert {one["name"] for one in done.json} >= {"report-db"}
    assert desk.live("alice") == before
    assert desk.irflow("secrets", "rotate", "--exposed-since", "1h", "report-db").out == "no secret was exposed\n"
    on_host = desk.irflow("secrets", "plan", "--exposed-on", "web-1", "--json").json
    assert [[one["name"] for one in group] for group in on_host] == [["alice"]]
    assert "no host 'web-9'" in desk.irflow("secrets", "plan", "--exposed-on", "web-9").err
    assert "not a time" in desk.irflow("secrets", "plan", "--exposed-since", "yesterday").err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda secrets: secrets["alice"]["target"].update(host="web-9"), "no host 'web-9' in the inventory"),
        (lambda secrets: secrets["alice"]["target"].update(kind="unix_pasword"), "Did you mean 'unix_password'?"),
        (lambda secrets: secrets["alice"]["target"].pop("account"), "'account' is missing"),
        (lambda secrets: secrets["alice"].update(after=["shopdb"]), "Did you mean 'shop-db'?"),
        (lambda secrets: secrets["shop-db"].update(after=["report-db"]), "secrets wait for each other"),
        (lambda secrets: secrets["alice"].update(reference="vault:irflow/alice"), "vault:MOUNT/path#field"),
    ],
)
def test_a_mistake_in_the_file_is_told_at_its_line(desk: Desk, change: Any, said: str) -> None:
    before = (desk.home / "secrets.yaml").read_text()
    desk.edit(change)
    try:
        done = desk.irflow("check")
    finally:
        (desk.home / "secrets.yaml").write_text(before)
    assert done.code == 6
    assert said in done.err
    assert "secrets.yaml:" in done.err


def test_a_sealed_vault_is_named_and_nothing_is_changed(desk: Desk) -> None:
    from irflow.adapters.vault.embedded import EmbeddedVault

    vault = EmbeddedVault(desk.home / "vault", int((desk.home / "vault" / "port").read_text()))
    vault.root().sys.seal()
    try:
        done = desk.irflow("secrets", "rotate", "shop-db")
    finally:
        vault.unseal()
    assert done.code == 1
    assert "Vault is sealed" in done.out
    assert desk.irflow("secrets", "verify", "shop-db").code == 0


def test_as_a_step_of_an_incident_it_is_planned_approved_journalled_and_goes_on_after_a_kill(desk: Desk) -> None:
    run = ("run", "rotate-secrets", "--param", "secrets=shop-db,report-db", "--local", "--yes", "--as", FIRST, "--json")
    environment = {**os.environ, "IRFLOW_FAULT": "after:secret.changed#3"}
    command = [sys.executable, "-m", "irflow", "--home", str(desk.home), *run]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (number,) = {one["number"] for one in desk.irflow("incidents", "list", "--json").json}
    with open_runtime(load(desk.home), process="responder") as wired, ThreadExecutor() as executor:
        incident = wired.store.find_incident(number)
        assert incident is not None
        done = execute(wired.engine, incident.id, "run-1", executor, run_id="second", kind="threads")
        events = wired.store.events(incident.id)
    assert {one.state for one in done.steps.values()} == {State.DONE}
    changed = [(one.data["name"], one.data["transition"]) for one in events if one.kind == Kind.SECRET_CHANGED]
    for name in ("shop-db", "report-db"):
        assert [transition for one, transition in changed if one == name] == ["staged", "promoted", "cleared"]
    values = [desk.live(name) for name in ("shop-db", "report-db")]
    journal = json.dumps([one.data for one in events])
    assert not any(value in journal for value in values)
    assert desk.gets_in("shop", values[0])
    assert desk.gets_in("report", values[1])
    assert desk.irflow("journal", "verify").code == 0


def test_a_responder_finishes_at_its_start_what_a_crash_left(desk: Desk) -> None:
    before = desk.live("shop-db")
    run = ("run", "rotate-secrets", "--param", "secrets=shop-db", "--local", "--yes", "--as", FIRST)
    command = [sys.executable, "-m", "irflow", "--home", str(desk.home)]
    environment = {**os.environ, "IRFLOW_FAULT": "after:secret.changed#1"}
    killed = subprocess.run([*command, *run], env=environment, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert desk.irflow("secrets", "verify", "shop-db").code == 1, "it was cut off half way"
    with subprocess.Popen([*command, "responder"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as responder:
        try:
            deadline = time.monotonic() + 30
            while desk.irflow("secrets", "verify", "shop-db").code and time.monotonic() < deadline:
                time.sleep(0.1)
        finally:
            responder.terminate()
    assert desk.irflow("secrets", "verify", "shop-db").code == 0
    assert desk.gets_in("shop", desk.live("shop-db"))
    assert desk.live("shop-db") == before or not desk.gets_in("shop", before)


def test_a_name_that_nobody_knows_keeps_no_other_secret_from_being_replaced(desk: Desk) -> None:
    before = desk.live("shop-db")
    params = ("--param", "secrets=shop-db,of-somebody-else")
    done = desk.irflow("run", "rotate-leaked", *params, "--local", "--yes", "--as", FIRST)
    assert done.code == 1
    assert "not proved: of-somebody-else: one of secrets.yaml" in done.out
    assert desk.live("shop-db") != before
    assert not desk.gets_in("shop", before)


def test_what_the_readme_shows_is_what_is_printed(desk: Desk) -> None:
    shown = {command: lines for command, lines in commands() if command.startswith("irflow secrets ")}
    assert len(shown) == 2
    for command, lines in shown.items():
        done = desk.irflow(*command.split()[1:])
        assert done.code == 0, done.err
        printed = [line.split() for line in done.out.splitlines()]
        (heading,) = headings(lines)
        assert heading in printed
        assert [line[:2] for line in printed if line[:1] in (["alice"], ["shop-db"], ["report-db"])] == [
            line.split()[:2] for line in lines[2:5]
        ]
        assert lines[5].split() in printed


def test_where_irflow_looks_after_no_secret_all_of_them_are_none_and_one_is_refused(desk: Desk) -> None:
    before = (desk.home / "secrets.yaml").read_text()
    (desk.home / "secrets.yaml").unlink()
    try:
        every = desk.irflow("run", "rotate-secrets", "--local", "--yes", "--as", FIRST)
        one = desk.irflow("run", "rotate-secrets", "--param", "secrets=shop-db", "--local", "--yes", "--as", FIRST)
    finally:
        (desk.home / "secrets.yaml").write_text(before)
    assert every.code == 0, every.err
    assert "secrets.yaml names no secret" in every.out
    assert one.code == 1
    assert "irflow looks after no secrets" in one.out + one.err
