"""A rotation may be killed anywhere: a working value is always in Vault, and in the end exactly one works."""

from __future__ import annotations

import itertools
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault, running
from irflow.adapters.vault.failures import VaultPathMissing
from tests.services.postgres import PostgresServer, running_postgres
from tests.services.rotation_hands import FAILING, WORKING, Hands, agreed, rotating

pytestmark = pytest.mark.timeout(300)

ROUNDS = 4
"""Who comes first is another one each time."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        yield one


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as one:
        rules = one.data / "pg_hba.conf"
        rules.write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        one.execute("SELECT pg_reload_conf()")
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@pytest.fixture
def hands(vault: EmbeddedVault, postgres: PostgresServer, process: subprocess.Popen[str], tmp_path: Path) -> Hands:
    admin = tmp_path / "admin"
    admin.write_text("not asked for")
    admin.chmod(0o600)
    postgres.execute("DROP ROLE IF EXISTS app")
    postgres.execute("CREATE ROLE app LOGIN PASSWORD 'old0'")

    def gets_in(password: str) -> bool:
        try:
            psycopg.connect(host=str(postgres.socket), dbname="postgres", user="app", password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    params = {"host": str(postgres.socket), "role": "app", "admin": "irflow", "admin_secret": f"file:{admin}"}
    return Hands(vault, process, "postgresql", params, gets_in, "old0")


def test_a_rotation_gives_a_new_value_that_works_and_the_old_one_is_dead(hands: Hands) -> None:
    assert hands.gets_in("old0")
    assert hands.rotate("run-1")["said"] == "rotated"
    live = hands.ended()
    assert live != "old0"
    assert hands.rotate("run-1")["said"] == "unchanged"
    assert hands.ended() == live
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != live


def test_an_old_value_that_still_opens_fails_the_rotation_and_is_kept_until_it_does_not(hands: Hands) -> None:
    said = hands.rotate_where_the_old_stays_good("run-1")
    assert said.startswith("StillAccepted: the old value is still accepted")
    document = hands.document.read()
    assert document.old is not None
    assert document.old.reveal() == b"old0"
    assert hands.gets_in(document.live.reveal().decode()), "the new one is in use all the same"
    assert hands.rotate("")["said"] == "rotated"
    assert hands.ended() != "old0"


@pytest.mark.parametrize(("first", "second"), list(itertools.product(WORKING, WORKING)))
def test_killed_twice_it_goes_on_where_it_was(hands: Hands, first: str, second: str) -> None:
    for point in (first, second):
        hands.rotate("run-1", fault=point)
        assert hands.one_works(), f"after {point} no value in Vault works"
    assert hands.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", WORKING)
def test_a_sweep_finishes_what_the_kill_left_and_begins_nothing(hands: Hands, point: str) -> None:
    assert hands.rotate("run-1", fault=point)["killed"]
    hands.rotate("")
    assert (hands.ended() == "old0") == (point == "read")


@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(hands: Hands, point: str) -> None:
    assert hands.rotate("run-1", fault=point, broken=True)["killed"]
    assert hands.one_works()
    hands.rotate("", broken=True)
    assert hands.ended() == "old0"


@pytest.mark.parametrize("point", FAILING)
def test_what_could_not_be_used_is_used_once_it_can(hands: Hands, point: str) -> None:
    assert hands.rotate("run-1", fault=point, broken=True)["killed"]
    hands.rotate("")
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", FAILING)
def test_an_account_that_is_to_be_disabled_lets_nobody_in_until_a_rotation_succeeds(hands: Hands, point: str) -> None:
    hands.rotate("run-1", fault=point, broken=True, on_failure="disable_account")
    hands.rotate("", broken=True, on_failure="disable_account")
    assert not any(map(hands.gets_in, hands.seen))
    assert hands.document.read().disabled
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != "old0"


def test_without_a_document_nothing_is_changed(hands: Hands) -> None:
    hands.vault.root().secrets.kv.v2.delete_metadata_and_all_versions(hands.path, mount_point=MOUNT)
    with pytest.raises(VaultPathMissing):
        hands.document.read()
    assert hands.gets_in("old0")


def test_of_many_who_rotate_at_once_all_that_end_well_agree(hands: Hands) -> None:
    for _ in range(ROUNDS):
        said = hands.all_at_once()
        assert agreed(said), "\n".join(said)
        hands.rotate("")
        assert hands.ended() != "old0"


@pytest.mark.parametrize("point", ["staged", "applied", "promoted"])
def test_while_the_database_is_down_nothing_is_decided_and_afterwards_it_ends(
    hands: Hands, postgres: PostgresServer, point: str
) -> None:
    assert hands.rotate("run-1", fault=point)["killed"]
    postgres.stop(signal.SIGQUIT)
    try:
        assert hands.rotate("")["said"].startswith("ServiceMissing")
    finally:
        postgres.start()
    assert hands.rotate("")["said"] == "rotated"
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", ["staged", "applied", "promoted", "cleared"])
def test_a_vault_that_is_sealed_or_dies_in_the_middle_costs_nothing(
    hands: Hands, vault: EmbeddedVault, point: str
) -> None:
    assert hands.rotate("run-1", fault=point)["killed"]
    vault.root().sys.seal()
    assert hands.order("")["said"].startswith("VaultSealed")
    vault.kill()
    assert hands.order("")["said"].startswith("VaultUnreachable")
    vault.start()
    hands.rotate("")
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", ["read", "promoted", "destroyed"])
def test_a_secret_that_only_vault_hands_out_is_replaced_in_one_write(
    vault: EmbeddedVault, process: subprocess.Popen[str], point: str
) -> None:
    hands = Hands(vault, process, "document", {"length": 64}, lambda value: value == live(), "old0")

    def live() -> str:
        return hands.document.read().live.reveal().decode()

    assert hands.rotate("run-1", fault=point)["killed"]
    assert hands.rotate("run-1")["said"] == ("rotated" if point == "read" else "unchanged")
    assert len(hands.ended()) == 64
    assert hands.document.read().version == 2
