"""A rotation may be killed anywhere: a working value is always in Vault, and in the end exactly one works."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.documents import OURS, KvDocument
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.adapters.vault.failures import VaultPathMissing
from irflow.adapters.vault.session import Session
from irflow.core.secret import SecretRef, SecretValue
from tests.services.postgres import PostgresServer, running_postgres

WORKING = ("read", "staged", "applied", "tested", "promoted", "revoked", "refused", "cleared", "destroyed")
FAILING = ("staged", "applied", "tested", "given_up", "withdrawn", "ended", "destroyed")
REF = SecretRef.parse("vault:irflow/shop/db#password")

pytestmark = pytest.mark.timeout(300)


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


@dataclass
class Hands:
    """Orders rotations and looks at what they leave behind."""

    vault: EmbeddedVault
    postgres: PostgresServer
    process: subprocess.Popen[str]
    keys: Path
    seen: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """A role whose password Vault has."""
        self.seen = {"old0"}
        self.postgres.execute("DROP ROLE IF EXISTS app")
        self.postgres.execute("CREATE ROLE app LOGIN PASSWORD 'old0'")
        kv = self.vault.root().secrets.kv.v2
        kv.delete_metadata_and_all_versions("shop/db", mount_point="irflow")
        self.document.begin(SecretValue(b"old0"), {"username": "app"})

    @property
    def document(self) -> KvDocument:
        return KvDocument(Session(self.vault.login, FileSecrets()), REF)

    def rotate(
        self, run: str, *, fault: str = "", broken: bool = False, on_failure: str = "rollback"
    ) -> dict[str, Any]:
        """In a process of its own; without a run it is a sweep."""
        login = self.vault.login
        order = {
            "url": login.url, "role": str(login.role), "secret": str(login.secret), "ca": str(login.ca),
            "ref": str(REF), "kind": "postgresql", "run": run, "fault": fault and f"after:{fault}", "broken": broken,
            "on_failure": on_failure,
            "params": {
                "host": str(self.postgres.socket), "role": "app", "admin": "irflow",
                "admin_secret": f"file:{self.keys}",
            },
        }  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.seen |= set(self.in_vault())
        return answer

    def in_vault(self) -> list[str]:
        """Every value that Vault still has, in whatever version."""
        kv, found = self.vault.root().secrets.kv.v2, []
        about = kv.read_secret_metadata("shop/db", mount_point="irflow")["data"]["versions"]
        for version, one in about.items():
            if not one["destroyed"]:
                data = kv.read_secret_version(
                    "shop/db", version=int(version), mount_point="irflow", raise_on_deleted_version=True
                )["data"]["data"]
                ours = data[OURS]
                found += [data["password"], ours.get("old"), (ours.get("staged") or {}).get("new")]
        return [one for one in found if one]

    def gets_in(self, password: str) -> bool:
        """As the attacker would."""
        try:
            psycopg.connect(host=str(self.postgres.socket), dbname="postgres", user="app", password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    def ended(self) -> str:
        """The one value that works, which is the live one of the only version left."""
        document = self.document.read()
        live = document.live.reveal().decode()
        assert [one for one in self.seen if self.gets_in(one)] == [live]
        assert not document.staged
        assert not document.old
        assert self.in_vault() == [live]
        assert document.rest == {"username": "app"}
        return live


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.services.rotation_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None and one.stdin is not None
        assert one.stdout.readline() == "ready\n"
        yield one
        one.stdin.close()


@pytest.fixture
def hands(vault: EmbeddedVault, postgres: PostgresServer, process: subprocess.Popen[str], tmp_path: Path) -> Hands:
    admin = tmp_path / "admin"
    admin.write_text("not asked for")
    admin.chmod(0o600)
    made = Hands(vault, postgres, process, admin)
    made.begin()
    return made


def test_a_rotation_gives_a_new_value_that_works_and_the_old_one_is_dead(hands: Hands) -> None:
    assert hands.gets_in("old0")
    assert hands.rotate("run-1")["said"] == "rotated"
    live = hands.ended()
    assert live != "old0"
    assert hands.rotate("run-1")["said"] == "unchanged"
    assert hands.ended() == live
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != live


@pytest.mark.parametrize(("first", "second"), list(itertools.product(WORKING, WORKING)))
def test_killed_twice_it_goes_on_where_it_was(hands: Hands, first: str, second: str) -> None:
    for point in (first, second):
        hands.rotate("run-1", fault=point)
        assert any(map(hands.gets_in, hands.in_vault())), f"after {point} no value in Vault works"
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
    assert any(map(hands.gets_in, hands.in_vault()))
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
    hands.vault.root().secrets.kv.v2.delete_metadata_and_all_versions("shop/db", mount_point="irflow")
    with pytest.raises(VaultPathMissing):
        hands.document.read()
    assert hands.gets_in("old0")
