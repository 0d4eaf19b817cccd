"""Secret-ids of Vault's AppRole: killed anywhere, one works in the end, and what the old one opened is closed."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hvac.exceptions
import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.embedded import ROLE, EmbeddedVault, running
from irflow.adapters.vault.session import Session
from irflow.core.secret import SecretValue
from irflow.wiring import load
from irflow.wiring.secrets import secret_document
from tests.cli.conftest import run
from tests.services.rotation_hands import FAILING, WORKING, Hands, rotating

pytestmark = pytest.mark.timeout(120)

DELIVERING = (*WORKING[:5], "delivered", *WORKING[5:])
POLICY = """
path "auth/approle/role/shop/role-id" { capabilities = ["read"] }
path "auth/approle/role/shop/custom-secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/shop/secret-id/destroy" { capabilities = ["create", "update"] }
"""
"""What secrets/README.md has the owner of a Vault add for each role that irflow looks after."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        root = one.root()
        root.sys.create_or_update_policy("secret-ids-of-shop", POLICY)
        root.write_data(f"auth/approle/role/{ROLE}", data={"token_policies": ["irflow", "secret-ids-of-shop"]})
        root.write_data("auth/approle/role/shop", data={"token_policies": ["default"]})
        root.sys.enable_auth_method("approle", path="elsewhere")
        root.write_data("auth/elsewhere/role/shop", data={"token_policies": ["default"]})
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


def enter(vault: EmbeddedVault, role: str, secret: str, mount: str = "approle") -> str:
    """A token for a secret-id. Raises InvalidRequest when it is refused."""
    identity = vault.root().auth.approle.read_role_id(role, mount_point=mount)["data"]["role_id"]
    said = vault.client("").auth.approle.login(identity, secret, use_token=False, mount_point=mount)
    token: str = said["auth"]["client_token"]
    return token


def made(vault: EmbeddedVault, role: str, mount: str = "approle") -> str:
    secret: str = vault.root().auth.approle.generate_secret_id(role, mount_point=mount)["data"]["secret_id"]
    return secret


def opens(vault: EmbeddedVault, token: str) -> bool:
    return bool(vault.client(token).is_authenticated())


def hands_for(
    vault: EmbeddedVault, process: subprocess.Popen[str], role: str, first: str, copies: tuple[str, ...] = ()
) -> Hands:
    def gets_in(value: str) -> bool:
        try:
            token = enter(vault, role, value)
        except hvac.exceptions.InvalidRequest:
            return False
        vault.client(token).auth.token.revoke_self()
        return True

    return Hands(vault, process, "vault_secret_id", {"role": role}, gets_in, first, copies=copies)


@pytest.fixture
def hands(vault: EmbeddedVault, process: subprocess.Popen[str]) -> Hands:
    """The secret-id of a service's role."""
    return hands_for(vault, process, "shop", made(vault, "shop"))


@pytest.fixture
def own(vault: EmbeddedVault, process: subprocess.Popen[str]) -> Hands:
    """The secret-id that irflow itself logs in with, which is also in its file."""
    return hands_for(vault, process, ROLE, file_of(vault).read_text(), (str(vault.login.secret),))


def file_of(vault: EmbeddedVault) -> Path:
    return Path(vault.login.secret.path)


@pytest.mark.parametrize("points", list(itertools.pairwise((*WORKING, WORKING[0]))), ids="-".join)
def test_killed_twice_it_goes_on_where_it_was(hands: Hands, vault: EmbeddedVault, points: tuple[str, str]) -> None:
    stolen = enter(vault, "shop", hands.first)
    for point in points:
        hands.rotate("run-1", fault=point)
        assert hands.one_works(), f"after {point} no value in Vault works"
    assert hands.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert hands.ended() != hands.first
    assert not opens(vault, stolen)


@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(hands: Hands, point: str) -> None:
    assert hands.rotate("run-1", fault=point, broken=True)["killed"]
    hands.rotate("", broken=True)
    assert hands.ended() == hands.first


@pytest.mark.parametrize("point", FAILING[-4:])
def test_a_role_that_is_to_be_disabled_lets_nobody_in_until_a_rotation_succeeds(
    hands: Hands, vault: EmbeddedVault, point: str
) -> None:
    stolen = enter(vault, "shop", hands.first)
    hands.rotate("run-1", fault=point, broken=True, on_failure="disable_account")
    hands.rotate("", broken=True, on_failure="disable_account")
    assert not any(map(hands.gets_in, hands.seen))
    assert not opens(vault, stolen)
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != hands.first


def test_tokens_of_other_roles_and_of_the_same_name_elsewhere_go_on(hands: Hands, vault: EmbeddedVault) -> None:
    namesake = enter(vault, "shop", made(vault, "shop", "elsewhere"), "elsewhere")
    irflows = enter(vault, ROLE, file_of(vault).read_text())
    assert hands.rotate("run-1")["said"] == "rotated"
    assert opens(vault, namesake)
    assert opens(vault, irflows)


@pytest.mark.parametrize("point", DELIVERING)
def test_irflows_own_is_in_its_file_before_the_old_one_is_destroyed(
    own: Hands, vault: EmbeddedVault, point: str
) -> None:
    stolen = enter(vault, ROLE, own.first)
    assert own.rotate("run-1", fault=point)["killed"]
    assert own.gets_in(file_of(vault).read_text()), f"after {point} irflow cannot log in any more"
    assert own.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert file_of(vault).read_text() == own.ended() != own.first
    assert file_of(vault).stat().st_mode & 0o777 == 0o600
    assert not opens(vault, stolen)
    assert Session(vault.login, FileSecrets()).describe() == "policies default, irflow, secret-ids-of-shop"


def test_without_a_copy_irflow_does_not_lock_itself_out(own: Hands, vault: EmbeddedVault) -> None:
    copies, own.copies = own.copies, ()
    said = own.rotate("run-1")["said"]
    assert "irflow itself logs in with this" in said
    assert own.gets_in(file_of(vault).read_text())
    own.copies = copies
    assert own.rotate("")["said"] == "rotated"
    assert file_of(vault).read_text() == own.ended() != own.first


def test_as_people_type_it_irflows_own_is_replaced_last_and_it_still_gets_in(
    vault: EmbeddedVault, tmp_path: Path
) -> None:
    home, login, old = tmp_path / "home", vault.login, file_of(vault).read_text()
    assert run(home, "init").code == 0
    for name, source in (("vault.role", login.role.path), ("vault.secret", login.secret.path)):
        (home / "keys" / name).write_text(Path(source).read_text())
        (home / "keys" / name).chmod(0o600)
    (home / "irflow.yaml").write_text(json.dumps({"vault": {"url": vault.url, "ca": str(vault.ca)}}))
    copies = ["file:keys/vault.secret", f"file:{login.secret.path}"]
    (home / "secrets.yaml").write_text(json.dumps({"secrets": {
        "irflow": {
            "reference": "vault:irflow/own/vault#secret", "own": True, "copies": copies,
            "target": {"kind": "vault_secret_id", "role": ROLE},
        },
        "cookies": {"reference": "vault:irflow/shop/cookies#value", "target": {"kind": "document"}},
    }}))  # fmt: skip
    config = load(home)
    for name, value in (("irflow", old), ("cookies", "stolen")):
        secret_document(config.settings, config.secrets.get(name)).begin(SecretValue(value.encode()), {})
    stolen = enter(vault, ROLE, old)
    planned = run(home, "secrets", "plan", "--json").json
    assert [[one["name"] for one in group] for group in planned] == [["cookies"], ["irflow"]]
    done = run(home, "secrets", "rotate-all", "--json")
    assert done.code == 0, done.err
    assert [one["result"] for one in done.json] == ["rotated", "rotated"]
    assert (home / "keys" / "vault.secret").read_text() == file_of(vault).read_text() != old
    assert not opens(vault, stolen)
    assert run(home, "secrets", "verify").code == 0
