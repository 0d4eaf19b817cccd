"""What can go wrong around a rotation while it runs: each time nothing is lost, and afterwards one value works."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.targets import open_target
from irflow.adapters.vault.documents import KvDocument
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.adapters.vault.failures import VaultFailing, VaultSlow
from irflow.adapters.vault.session import Session
from irflow.core.errors import OutcomeUnknown, ServiceMissing
from irflow.core.rotation import OnFailure, Result, Rotator
from irflow.core.rotation_means import Means
from irflow.lab.syscalls import mount, unmount
from tests.services.cable import Cable
from tests.services.postgres import PostgresServer, running_postgres
from tests.services.rotation_hands import Hands, rotating

pytestmark = pytest.mark.timeout(120)

POINTS = ("read", "staged", "applied", "tested", "promoted", "revoked", "refused", "cleared")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small one of its own, for the audit log."""
    folder = tmp_path_factory.mktemp("disk")
    mount("irflow-test", folder, "tmpfs", data="size=256k,mode=700")
    try:
        yield folder
    finally:
        unmount(folder)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, disk: Path) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home", audit=disk / "audit.log") as one:
        yield one


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as one:
        (one.data / "pg_hba.conf").write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        one.execute("SELECT pg_reload_conf()")
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@pytest.fixture
def hands(
    vault: EmbeddedVault, postgres: PostgresServer, process: subprocess.Popen[str], disk: Path, tmp_path: Path
) -> Hands:
    (disk / "audit.log").write_bytes(b"")
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


def rotator(hands: Hands, point: str, trouble: Callable[[], object]) -> Rotator:
    """One in this process, that meets the trouble right after a point, once."""
    login = replace(hands.vault.login, timeout_s=1)
    document = KvDocument(Session(login, FileSecrets()), hands.ref)
    target = open_target(hands.kind, hands.params, Means(FileSecrets()))

    def passed(step: str, version: int) -> None:
        hands.seen.update(hands.in_vault() if step in ("staged", "promoted") else ())
        if step == point:
            trouble()

    return Rotator(document, target, OnFailure.ROLLBACK, time.monotonic, passed)


@pytest.mark.parametrize("point", POINTS)
def test_a_token_that_dies_in_the_middle_is_replaced_and_the_rotation_goes_on(hands: Hands, point: str) -> None:
    died: list[str] = []

    def expire() -> None:
        root = hands.vault.root()
        for accessor in root.list("auth/token/accessors")["data"]["keys"]:
            about = root.auth.token.lookup_accessor(accessor)["data"]
            if "irflow" in about["policies"]:
                root.auth.token.revoke_accessor(accessor)
                died.append(accessor)

    done = rotator(hands, point, expire).rotate("run-1")

    assert died
    assert done.result is Result.ROTATED
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", ["read", "staged", "applied", "promoted", "cleared"])
def test_while_the_audit_disk_is_full_nothing_is_decided_and_afterwards_it_ends(
    hands: Hands, disk: Path, point: str
) -> None:
    filler = disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        with (disk / "audit.log").open("ab", buffering=0) as log:  # to the end of its last page
            try:
                while True:
                    log.write(b"\n")
            except OSError:
                pass

    try:
        with pytest.raises(VaultFailing, match="full audit disk"):
            rotator(hands, point, fill).rotate("run-1")
    finally:
        filler.unlink(missing_ok=True)
        (disk / "audit.log").write_bytes(b"")
    assert hands.one_works()
    assert rotator(hands, "", lambda: None).rotate("run-1").result in (Result.ROTATED, Result.UNCHANGED)
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", ["applied", "tested"])
def test_a_network_to_vault_that_is_cut_between_applying_and_promoting_costs_nothing(hands: Hands, point: str) -> None:
    with Cable(("127.0.0.1", hands.vault.port)) as cable:
        through = replace(hands, vault=replace(hands.vault, port=cable.port))
        with pytest.raises(VaultSlow, match="did not answer in time"):
            rotator(through, point, cable.cut).rotate("run-1")
        hands.seen |= {*through.seen, *hands.in_vault()}
        assert hands.one_works(), "what was applied is in Vault, staged"
        cable.mend()
        assert rotator(through, "", lambda: None).sweep().result is Result.ROTATED
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", ["staged", "applied", "promoted"])
def test_a_network_to_the_database_that_is_cut_in_the_middle_costs_nothing(
    hands: Hands, postgres: PostgresServer, tmp_path: Path, point: str
) -> None:
    server = next(path for path in postgres.socket.iterdir() if not path.name.endswith(".lock"))
    with Cable(str(server), tmp_path / server.name) as cable:
        through = replace(hands, params={**hands.params, "host": str(tmp_path)})

        def cut() -> None:
            cable.cut()
            cable.mend()  # the connections of before are lost at once; new ones wait
            cable.cut()

        with pytest.raises((OutcomeUnknown, ServiceMissing)):
            rotator(through, point, cut).rotate("run-1")
        hands.seen |= set(hands.in_vault())
        assert hands.one_works()
        cable.mend()
        assert rotator(through, "", lambda: None).rotate("run-1").result in (Result.ROTATED, Result.UNCHANGED)
    assert hands.ended() != "old0"
