"""Secrets that live in a keyring: killed between its entries too, one value works and others read the live one."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from irflow.adapters.keyring.document import NOTES, KeyringDocument
from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.adapters.keyring.secrets import KeyringSecrets
from irflow.adapters.secret_files import FileSecrets
from irflow.core.errors import ConfigurationError
from irflow.core.rotation import Overtaken
from irflow.core.secret import SecretRef, SecretValue
from tests.cli.conftest import Done, run
from tests.services.postgres import PostgresServer, running_postgres
from tests.services.rotation_hands import FAILING, WORKING, ask, rotating

pytestmark = pytest.mark.timeout(120)

REF = SecretRef("keyring", "shop/db")
DELIVERING = (*WORKING[:5], "delivered", *WORKING[5:])
WRITES = range(1, 6)
"""Of one rotation: notes when staged; notes, value and notes when promoted; notes when cleared."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as one:
        (one.data / "pg_hba.conf").write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        one.execute("SELECT pg_reload_conf()")
        one.execute("CREATE ROLE app LOGIN")
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@dataclass
class Desk:
    """Orders rotations of a database's password that is kept in a keyring, with a copy in a file."""

    folder: Path
    process: subprocess.Popen[str]
    postgres: PostgresServer

    def __post_init__(self) -> None:
        for name in ("key", "admin"):
            (self.folder / name).write_text(secrets.token_hex(16))
            (self.folder / name).chmod(0o600)
        self.keyring = EncryptedFileKeyring(self.folder / "keyring", self.master)
        self.document = KeyringDocument(self.keyring, REF, self.folder / "lock")
        self.postgres.execute("ALTER ROLE app PASSWORD 'old0'")
        self.document.begin(SecretValue(b"old0"), {})
        self.copy = self.folder / "copy"

    def master(self) -> SecretValue:
        return FileSecrets().resolve(SecretRef("file", str(self.folder / "key")))

    def rotate(
        self, run: str, *, fault: str = "", writes: int = 0, broken: bool = False, on_failure: str = "rollback"
    ) -> dict[str, Any]:
        params = {
            "host": str(self.postgres.socket), "role": "app", "admin": "irflow",
            "admin_secret": f"file:{self.folder / 'admin'}",
        }  # fmt: skip
        keyring = {name: str(self.folder / name) for name in ("key", "lock")} | {"file": str(self.folder / "keyring")}
        return ask(
            self.process, ref=str(REF), kind="postgresql", params=params, means={}, run=run, broken=broken,
            fault=fault and f"after:{fault}", on_failure=on_failure, copies=[f"file:{self.copy}"],
            keyring={**keyring, "writes": writes}, url="https://127.0.0.1:1", role="file:/nowhere",
            secret="file:/nowhere", ca="/nowhere",
        )  # fmt: skip

    def gets_in(self, password: str) -> bool:
        try:
            psycopg.connect(host=str(self.postgres.socket), dbname="postgres", user="app", password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    def read(self) -> str:
        """What a program reads that knows nothing of irflow."""
        return KeyringSecrets(self.keyring).resolve(REF).reveal().decode()

    def known(self) -> set[str]:
        """Every value that the keyring holds, in whatever entry."""
        notes = json.loads(self.keyring.get_password("shop", f"db{NOTES}") or "{}")
        found = {self.read(), notes["live"], notes["before"], notes.get("old"), (notes.get("staged") or {}).get("new")}
        return {one for one in found if one}

    def ended(self) -> str:
        """The value that works: it is the one that is read, no other is left, and the old one is dead."""
        live = self.read()
        assert self.gets_in(live)
        assert self.known() == {live}
        document = self.document.read()
        assert document.staged is None
        assert document.old is None
        return live


@pytest.fixture
def desk(tmp_path: Path, process: subprocess.Popen[str], postgres: PostgresServer) -> Desk:
    return Desk(tmp_path, process, postgres)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("again", [0, 1])
def test_killed_between_the_entries_it_goes_on_where_it_was(desk: Desk, write: int, again: int) -> None:
    assert desk.rotate("run-1", writes=write)["killed"]
    assert any(map(desk.gets_in, desk.known()))
    desk.rotate("run-1", writes=again)
    assert any(map(desk.gets_in, desk.known()))
    assert desk.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert desk.copy.read_text() == desk.ended() != "old0"
    assert not desk.gets_in("old0")


@pytest.mark.parametrize("point", DELIVERING)
def test_killed_at_any_transition_it_goes_on_where_it_was(desk: Desk, point: str) -> None:
    assert desk.rotate("run-1", fault=point)["killed"]
    assert any(map(desk.gets_in, desk.known()))
    assert desk.rotate("")["said"] in ("rotated", "unchanged")
    assert desk.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert desk.copy.read_text() == desk.ended() != "old0"


@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(desk: Desk, point: str) -> None:
    assert desk.rotate("run-1", fault=point, broken=True)["killed"]
    desk.rotate("", broken=True)
    assert desk.ended() == "old0"


def test_a_value_that_somebody_put_there_meanwhile_is_the_live_one(desk: Desk) -> None:
    assert desk.rotate("run-1")["said"] == "rotated"
    desk.postgres.execute("ALTER ROLE app PASSWORD 'by hand'")
    desk.keyring.set_password("shop", "db", "by hand")
    assert desk.document.read().live.reveal() == b"by hand"
    assert desk.rotate("run-2")["said"] == "rotated"
    assert desk.ended() != "by hand"
    assert not desk.gets_in("by hand")


def test_whoever_read_it_before_another_changed_it_writes_nothing(desk: Desk) -> None:
    late = desk.document.read()
    assert desk.rotate("run-1")["said"] == "rotated"
    with pytest.raises(Overtaken):
        desk.document.write(late)
    desk.ended()


def test_what_is_not_there_is_never_made_up(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="no such entry"):
        KeyringDocument(desk.keyring, SecretRef("keyring", "shop/none"), desk.folder / "lock").read()


# ---------------------------------------------------------------- as people type it


@dataclass(frozen=True)
class Site:
    """An installation without Vault."""

    home: Path

    def irflow(self, *arguments: str, stdin: str | None = None) -> Done:
        if stdin is None:
            return run(self.home, *arguments)
        done = subprocess.run(
            [sys.executable, "-m", "irflow", "--home", str(self.home), *arguments],
            input=stdin, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def read(self, name: str) -> str:
        """As a program does that has the master key and knows nothing of irflow."""
        master = SecretRef("file", str(self.home / "keys" / "keyring.key"))
        keyring = EncryptedFileKeyring(self.home / "keys" / "keyring", lambda: FileSecrets().resolve(master))
        return KeyringSecrets(keyring).resolve(SecretRef("keyring", name)).reveal().decode()


@pytest.fixture
def site(tmp_path: Path, postgres: PostgresServer) -> Site:
    home = tmp_path / "home"
    assert run(home, "init").code == 0
    for name, value in (("keyring.key", "a master key, long enough"), ("admin", "not asked for")):
        (home / "keys" / name).write_text(value)
        (home / "keys" / name).chmod(0o600)
    (home / "irflow.yaml").write_text(json.dumps({"keyring": {"backend": "encrypted-file"}}))
    database = {
        "kind": "postgresql", "host": str(postgres.socket), "role": "app", "admin": "irflow",
        "admin_secret": f"file:{home / 'keys' / 'admin'}",
    }  # fmt: skip
    (home / "secrets.yaml").write_text(json.dumps({"secrets": {
        "db": {"reference": "keyring:shop/db", "target": database, "copies": ["file:keys/db.password"]},
        "cookies": {"reference": "keyring:shop/cookies", "target": {"kind": "document"}},
        "seed": {"reference": "keyring:shop/seed", "target": {"kind": "document"}, "copies": ["file:keys/seed"]},
    }}))  # fmt: skip
    return Site(home)


def test_put_and_rotate_need_no_vault(site: Site, desk: Desk) -> None:
    for name, value in (("db", "old0"), ("cookies", "stolen-cookies"), ("seed", "stolen-seed")):
        put = site.irflow("secrets", "put", name, stdin=value + "\n")
        assert put.code == 0, put.err
        assert value not in put.out + put.err
        assert site.read(f"shop/{name}") == value
    again = site.irflow("secrets", "put", "cookies", stdin="mine\n")
    assert again.code != 0
    assert site.read("shop/cookies") == "stolen-cookies"
    done = site.irflow("secrets", "rotate-all", "--run", "one", "--json")
    assert done.code == 0, done.err
    assert {one["name"]: one["result"] for one in done.json} == dict.fromkeys(("db", "cookies", "seed"), "rotated")
    live = site.read("shop/db")
    assert desk.gets_in(live)
    assert not desk.gets_in("old0")
    for name, copied in (("shop/db", "db.password"), ("shop/seed", "seed")):
        copy = site.home / "keys" / copied
        assert copy.read_text() == site.read(name)
        assert copy.stat().st_mode & 0o777 == 0o600
    assert len(site.read("shop/cookies")) == 40
    assert site.irflow("secrets", "verify").code == 0
    again = site.irflow("secrets", "rotate-all", "--run", "one", "--json")
    assert {one["result"] for one in again.json} == {"unchanged"}
    assert site.read("shop/db") == live
    sweep = site.irflow("secrets", "sweep", "--json")
    assert {one["result"] for one in sweep.json} == {"unchanged"}


def test_a_copy_that_cannot_be_written_keeps_the_old_value_alive_until_it_can(site: Site, desk: Desk) -> None:
    assert site.irflow("secrets", "put", "db", stdin="old0\n").code == 0
    (site.home / "keys" / "db.password").mkdir()
    failed = site.irflow("secrets", "rotate", "db")
    assert failed.code == 1
    assert "the copy cannot be written" in " ".join(failed.out.replace("-", "").split())
    assert desk.gets_in(site.read("shop/db"))
    (site.home / "keys" / "db.password").rmdir()
    assert site.irflow("secrets", "sweep", "db").code == 0
    assert (site.home / "keys" / "db.password").read_text() == site.read("shop/db")
    assert site.irflow("secrets", "verify", "db").code == 0


def test_without_its_master_key_the_keyring_is_named_and_nothing_is_changed(site: Site, desk: Desk) -> None:
    assert site.irflow("secrets", "put", "db", stdin="old0\n").code == 0
    key = site.home / "keys" / "keyring.key"
    key.write_text("another key, also long enough")
    failed = site.irflow("secrets", "rotate", "db")
    assert failed.code in (1, 7)
    assert "the master key is another one" in failed.out + failed.err
    assert desk.gets_in("old0")
