"""What Vault's own engines make is replaced and proved dead, wherever the rotation is killed."""

from __future__ import annotations

import base64
import contextlib
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import hvac.exceptions
import psycopg
import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.documents import EnginePlace
from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault, running
from irflow.adapters.vault.session import Session
from irflow.core.secret import SecretRef
from tests.services.postgres import PostgresServer, running_postgres
from tests.services.rotation_hands import rotating, tell

pytestmark = pytest.mark.timeout(300)

POINTS = ("read", "staged", "applied", "tested", "refused", "cleared", "destroyed")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as one:
        rules = one.data / "pg_hba.conf"
        rules.write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        one.execute("SELECT pg_reload_conf()")
        one.execute("CREATE ROLE vault SUPERUSER LOGIN PASSWORD 'of-vault'")
        one.execute("CREATE ROLE app LOGIN PASSWORD 'old0'")
        yield one


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[EmbeddedVault]:
    """A Vault whose owner has enabled the engines."""
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        root = one.root()
        for engine in ("database", "transit"):
            root.sys.enable_secrets_engine(engine)
        root.write_data("database/config/shop", data={
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "vault",
            "password": "of-vault", "password_authentication": "scram-sha-256",
            "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@/postgres?host={postgres.socket}",
        })  # fmt: skip
        root.write_data("database/static-roles/app", data={
            "db_name": "shop", "username": "app", "rotation_period": "24h",
            "rotation_statements": "ALTER USER \"{{name}}\" WITH PASSWORD '{{password}}'",
        })  # fmt: skip
        root.write_data("database/roles/clerk", data={
            "db_name": "shop", "default_ttl": "1h",
            "creation_statements": "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}'",
        })  # fmt: skip
        root.write_data("auth/approle/role/shop", data={"token_policies": ["default"]})
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@dataclass
class Rotating:
    """Orders rotations of one engine's thing. gone: whether an attacker who holds it is refused."""

    vault: EmbeddedVault
    process: subprocess.Popen[str]
    kind: str
    params: dict[str, Any]
    ref: SecretRef = field(default_factory=lambda: SecretRef("vault", f"{MOUNT}/rotations/{uuid.uuid4().hex}", "place"))

    def rotate(self, run: str, fault: str = "") -> dict[str, Any]:
        return tell(
            self.process, self.vault, ref=str(self.ref), kind=self.kind, params=self.params, means={}, run=run,
            fault=fault and f"after:{fault}", broken=False, on_failure="rollback",
        )  # fmt: skip

    def nothing_is_left(self) -> bool:
        return EnginePlace(Session(self.vault.login, FileSecrets()), self.ref).read().old is None


Make = Callable[..., Rotating]


@pytest.fixture
def make(vault: EmbeddedVault, process: subprocess.Popen[str]) -> Make:
    return lambda kind, **params: Rotating(vault, process, kind, params)


def gets_in(postgres: PostgresServer, user: str, password: str) -> bool:
    try:
        psycopg.connect(host=str(postgres.socket), dbname="postgres", user=user, password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def killed_then_ended(one: Rotating, point: str, attacker_gets_in: Callable[[], bool]) -> None:
    """Kill a rotation at a point; the next call ends it, and what the attacker held is dead."""
    assert attacker_gets_in()
    assert one.rotate("run-1", point)["killed"]
    assert one.rotate("run-1")["said"] in ("rotated", "unchanged"), point
    assert not attacker_gets_in()
    assert one.nothing_is_left()
    assert one.rotate("run-1")["said"] == "unchanged"


# ---------------------------------------------------------------- a static role


@pytest.fixture
def role(make: Make, postgres: PostgresServer) -> Rotating:
    return make("database_role", role="app", login={"host": str(postgres.socket)})


def password(vault: EmbeddedVault) -> str:
    found: str = vault.root().read("database/static-creds/app")["data"]["password"]
    return found


@pytest.mark.parametrize("point", POINTS)
def test_the_password_of_a_static_role_is_vaults_and_the_one_before_is_dead(
    role: Rotating, vault: EmbeddedVault, postgres: PostgresServer, point: str
) -> None:
    stolen = password(vault)
    killed_then_ended(role, point, lambda: gets_in(postgres, "app", stolen))
    assert gets_in(postgres, "app", password(vault))


def test_while_the_database_is_down_nothing_is_said_to_be_done_and_afterwards_it_ends(
    role: Rotating, vault: EmbeddedVault, postgres: PostgresServer
) -> None:
    stolen = password(vault)
    assert role.rotate("run-1", "staged")["killed"]
    postgres.stop(signal.SIGQUIT)
    try:
        said = role.rotate("")["said"]
        assert said.startswith(("VaultFailing", "OutcomeUnknown", "ServiceMissing")), said
    finally:
        postgres.start()
    assert role.rotate("")["said"] == "rotated"
    assert not gets_in(postgres, "app", stolen)
    assert gets_in(postgres, "app", password(vault))


# ---------------------------------------------------------------- leases, tokens, secret-ids


@pytest.mark.parametrize("point", POINTS)
def test_roles_that_vault_made_are_gone_from_the_database(
    make: Make, vault: EmbeddedVault, postgres: PostgresServer, point: str
) -> None:
    stolen = [vault.root().read("database/creds/clerk")["data"] for _ in range(2)]
    one = make("vault_leases", prefix="database/creds/clerk")
    killed_then_ended(one, point, lambda: any(gets_in(postgres, got["username"], got["password"]) for got in stolen))


def opens(vault: EmbeddedVault, token: str) -> bool:
    return bool(vault.client(token).is_authenticated())


def enter(vault: EmbeddedVault, role: str, secret: str) -> str:
    identity = vault.root().auth.approle.read_role_id(role)["data"]["role_id"]
    token: str = vault.client("").auth.approle.login(identity, secret, use_token=False)["auth"]["client_token"]
    return token


@pytest.mark.parametrize("point", POINTS)
def test_tokens_that_were_issued_already_open_nothing_and_others_still_do(
    make: Make, vault: EmbeddedVault, point: str
) -> None:
    secret = vault.root().auth.approle.generate_secret_id("shop")["data"]["secret_id"]
    stolen = enter(vault, "shop", secret)
    child = vault.root().auth.token.create(policies=["default"], no_parent=True)["auth"]["client_token"]
    killed_then_ended(make("vault_tokens", roles=["shop"]), point, lambda: opens(vault, stolen))
    assert opens(vault, child)
    assert opens(vault, enter(vault, "shop", secret))  # it is the tokens that ended


def test_what_ends_irflows_own_policy_spares_the_token_that_it_works_with(make: Make, vault: EmbeddedVault) -> None:
    stolen = vault.root().auth.token.create(policies=["irflow"])["auth"]["client_token"]
    assert opens(vault, stolen)
    assert make("vault_tokens", policies=["irflow"]).rotate("run-1")["said"] == "rotated"
    assert not opens(vault, stolen)


# ---------------------------------------------------------------- transit


@pytest.mark.parametrize("point", POINTS)
def test_what_was_encrypted_before_opens_no_more_but_what_irflow_was_told_of(
    make: Make, vault: EmbeddedVault, point: str
) -> None:
    root, key = vault.root(), uuid.uuid4().hex
    root.secrets.transit.create_key(key)

    def encrypt(text: bytes) -> str:
        done = root.secrets.transit.encrypt_data(key, base64.b64encode(text).decode())
        return str(done["data"]["ciphertext"])

    def decrypts(ciphertext: str) -> bool:
        with contextlib.suppress(hvac.exceptions.InvalidRequest):
            return bool(root.secrets.transit.decrypt_data(key, ciphertext)["data"]["plaintext"])
        return False

    copied, kept = encrypt(b"copied by the attacker"), encrypt(b"still needed")
    root.secrets.kv.v2.create_or_update_secret(f"sealed/{key}", {"note": kept, "of": "shop"}, mount_point=MOUNT)
    one = make("transit_key", key=key, rewrap=[f"vault:{MOUNT}/sealed/{key}#note"])
    killed_then_ended(one, point, lambda: decrypts(copied))
    now = root.secrets.kv.v2.read_secret_version(f"sealed/{key}", mount_point=MOUNT, raise_on_deleted_version=True)
    found = root.secrets.transit.decrypt_data(key, now["data"]["data"]["note"])["data"]["plaintext"]
    assert base64.b64decode(found) == b"still needed"
    assert now["data"]["data"]["of"] == "shop"
    assert decrypts(encrypt(b"new"))
