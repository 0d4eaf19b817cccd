"""Break-glass on real hosts with a real PostgreSQL that is down: the cut is made, proved, kept, and joined afterwards.

No Prefect, no web process, no responder and no Vault run while the host is cut off.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.core.journal import Event, Kind
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.wiring import load, open_store
from tests.integration.cli_site import FIRST, Desk, desk
from tests.services.irflow_site import until
from tests.services.postgres import PostgresServer, running_postgres

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(4, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def here(lab: Lab, postgres: PostgresServer, tmp_path: Path) -> Desk:
    """An installation whose journal is in PostgreSQL."""
    made = desk(tmp_path / "home", lab)
    made.edit("irflow.yaml", lambda data: data.update(database_url=postgres.new_database()))
    return made


def dark(lab: Lab, host: LabHost) -> bool:
    return vantage.look(lab, host, "attacker", timeout_s=0.3).dark


def cut(here: Desk, host: LabHost, *more: str) -> tuple[int, str, str]:
    """The command of the emergency, in a process of its own as people start it."""
    words = ("run", "isolate-host", "--local", "--param", f"hosts={host.name}", "--yes", "--as", FIRST, *more)
    argv = [sys.executable, "-m", "irflow", "--home", str(here.home), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def cut_while_down(here: Desk, postgres: PostgresServer, host: LabHost, *more: str) -> str:
    """Cut a host off while the database is down. Returns the local run's name."""
    postgres.stop()
    try:
        code, out, err = cut(here, host, *more)
        assert code == 3, out + err  # the owner of the host is still to be told, by a person
        assert "THE JOURNAL CANNOT BE REACHED" in err
        assert dark(here.lab, host)
        return next(word for word in err.split() if word.startswith("LOCAL-"))
    finally:
        postgres.start()


def events(here: Desk, number: str) -> list[Event]:
    with open_store(load(here.home).settings) as store:
        found = store.find_incident(number)
        return store.events(found.id) if found else []


def incidents(here: Desk) -> list[str]:
    with open_store(load(here.home).settings) as store:
        return [one.number for one, _ in store.incidents()]


def step(local: str, host: LabHost) -> str:
    return f"{local.lower()}/isolate-host.isolate@{host.name}"


def test_a_host_is_cut_off_with_everything_down_and_a_responder_joins_it_at_its_start(
    here: Desk, lab: Lab, postgres: PostgresServer
) -> None:
    host = lab.hosts[0]
    local = cut_while_down(here, postgres, host)
    assert (here.home / "state" / "breakglass" / f"{local}.db").is_file()
    assert incidents(here) == []
    argv = [sys.executable, "-m", "irflow", "--home", str(here.home), "responder"]
    responder = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: incidents(here), 30, "the responder joins the local run")
        (number,) = incidents(here)
        until(lambda: len(here.status(number).leases) == 1, 10, "the lease is known")
    finally:
        responder.terminate()
        responder.wait(20)
    (joined,) = [one for one in events(here, number) if one.kind == Kind.CHAIN_JOINED]
    assert len(joined.data["hash"]) == 64
    status = here.status(number)
    assert status.incident.hosts == (host.name,)
    assert status.step(step(local, host)).state is State.DONE
    assert [row["target"] for row in here.irflow("leases", "list", "--json").json] == [host.name]
    renewed = here.irflow("leases", "renew", number, host.name, "--as", FIRST)
    assert renewed.code == 0, renewed.err
    undone = here.irflow("undo", number, "--yes", "--as", FIRST)
    assert undone.code == 0, undone.err
    assert not dark(lab, host)
    assert here.irflow("journal", "verify").code == 0


def test_a_local_run_is_joined_by_hand_to_the_incident_it_was_meant_for_and_only_once(
    here: Desk, lab: Lab, postgres: PostgresServer
) -> None:
    first, second = lab.hosts[1:3]
    number = here.alert(first.name)
    local = cut_while_down(here, postgres, second, "--incident", number)
    for _ in range(2):
        done = here.irflow("incidents", "join", local, "--as", FIRST)
        assert (done.code, done.out) == (0, f"{local} is part of {number} now\n"), done.err
    assert [one.kind for one in events(here, number)].count(Kind.CHAIN_JOINED) == 1
    status = here.status(number)
    assert status.incident.hosts == (first.name, second.name)
    assert [lease.target for lease in status.leases.values()] == [second.name]
    assert incidents(here) == [number]
    shown = here.irflow("undo", number, "--dry-run", "--json").json
    assert [one["key"] for one in shown["steps"]] == [step(local, second)]
    assert here.irflow("incidents", "join", "--as", FIRST).out == "nothing is waiting to be joined\n"


def test_a_local_journal_that_was_tampered_with_is_not_joined(here: Desk, lab: Lab, postgres: PostgresServer) -> None:
    local = cut_while_down(here, postgres, lab.hosts[3])
    path = here.home / "state" / "breakglass" / f"{local}.db"
    with sqlite3.connect(path) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in names:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("UPDATE events SET actor = 'somebody else' WHERE seq = 2")
    refused = here.irflow("incidents", "join", local, "--as", FIRST)
    assert refused.code == 1, refused.err
    assert f"{local} is damaged" in refused.err
    assert incidents(here) == []
    missing = here.irflow("incidents", "join", "LOCAL-NONE", "--as", FIRST)
    assert (missing.code, f"Waiting to be joined: {local}" in missing.err) == (2, True)


def test_what_is_not_asked_for_locally_says_how_it_could_be_and_a_dry_run_leaves_nothing(
    here: Desk, lab: Lab, postgres: PostgresServer
) -> None:
    words = ("run", "isolate-host", "--param", f"hosts={lab.hosts[0].name}", "--as", FIRST)
    postgres.stop()
    try:
        refused = here.irflow(*words)
        assert refused.code == 7, refused.err
        assert "with a journal of its own: --local" in refused.err
        assert here.irflow(*words, "--local", "--dry-run").code == 0
    finally:
        postgres.start()
    assert list((here.home / "state" / "breakglass").iterdir()) == []
