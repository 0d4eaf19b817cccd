"""Documents in a real Vault: one write decides, and what irflow never changed is left as it is."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.targets import open_target
from irflow.adapters.vault.documents import KEPT_VERSIONS, OURS, KvDocument, VaultSecrets
from irflow.adapters.vault.embedded import MOUNT, ROLE, EmbeddedVault, program, running
from irflow.adapters.vault.failures import VaultPathMissing
from irflow.adapters.vault.session import Session
from irflow.core.errors import ConfigurationError
from irflow.core.rotation import OnFailure, Overtaken, Result, Rotator
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretRef, SecretValue

REF = SecretRef.parse(f"vault:{MOUNT}/shop/db#password")
VALUE = "the-stolen-value"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        KvDocument(Session(one.login, FileSecrets()), REF).begin(SecretValue(VALUE.encode()), {"username": "app"})
        yield one


@pytest.fixture
def session(vault: EmbeddedVault) -> Session:
    return Session(vault.login, FileSecrets())


def read(session: Session) -> bytes:
    return VaultSecrets(session).resolve(REF).reveal()


def put(vault: EmbeddedVault, path: str, fields: dict[str, object]) -> None:
    """As others would, with no notes of irflow unless fields has them."""
    vault.root().secrets.kv.v2.create_or_update_secret(path, fields, mount_point=MOUNT)


def alive(vault: EmbeddedVault, path: str) -> list[int]:
    """The versions whose values can still be read."""
    about = vault.root().secrets.kv.v2.read_secret_metadata(path, mount_point=MOUNT)["data"]["versions"]
    return [int(number) for number, one in about.items() if not one["destroyed"]]


def rotator(session: Session, path: str) -> Rotator:
    document = KvDocument(session, SecretRef("vault", f"{MOUNT}/{path}", "password"))
    return Rotator(document, open_target("document", {}, Means(FileSecrets())), OnFailure.ROLLBACK, time.monotonic)


def test_of_two_who_decide_on_the_same_version_one_is_overtaken(session: Session) -> None:
    document = KvDocument(session, SecretRef.parse(f"vault:{MOUNT}/raced#password"))
    document.begin(SecretValue(b"one"), {})
    first, second = document.read(), document.read()
    assert document.write(replace(first, live=SecretValue(b"two"))).version == 2
    with pytest.raises(Overtaken):
        document.write(replace(second, live=SecretValue(b"three")))
    assert document.read().live.reveal() == b"two"


def test_a_sweep_leaves_the_older_versions_of_a_document_alone_that_irflow_never_rotated(
    vault: EmbeddedVault, session: Session
) -> None:
    for number in range(3):
        put(vault, "history", {"password": f"value-{number}"})
    one = rotator(session, "history")
    assert one.sweep().result is Result.UNCHANGED
    assert alive(vault, "history") == [1, 2, 3]
    assert one.rotate("run-1").result is Result.ROTATED
    assert alive(vault, "history") == [4]
    put(vault, "history", {"password": "by-hand", OURS: {"run": "run-1"}})
    one.sweep()
    assert alive(vault, "history") == [5], "what irflow rotated it tidies up"


def test_when_a_value_was_made_is_known_of_a_first_version_and_of_what_irflow_made_alone(
    vault: EmbeddedVault, session: Session
) -> None:
    put(vault, "dated", {"password": "p"})
    one = rotator(session, "dated")
    assert one.changed() is not None
    put(vault, "dated", {"password": "p", "url": "patched"})
    assert one.changed() is None, "the patch was of another field: the value is as old as it was"
    one.rotate("run-1")
    assert one.changed() is not None


@pytest.mark.parametrize("under_way", [{"old": "before"}, {"staged": {"run": "r", "new": "n", "giving_up": None}}])
def test_while_a_value_from_before_may_still_work_nobody_knows_how_old_it_is(
    vault: EmbeddedVault, session: Session, under_way: dict[str, object]
) -> None:
    notes = {"run": "run-1", "since": "2026-03-01T12:00:00.000000Z"}
    put(vault, "under-way", {"password": "p", OURS: notes})
    assert rotator(session, "under-way").changed() is not None
    put(vault, "under-way", {"password": "p", OURS: {**notes, **under_way}})
    assert rotator(session, "under-way").changed() is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"password": "p", OURS: "text"}, "its field _irflow is not as irflow writes it"),
        ({"password": "p", OURS: {"staged": "text"}}, "its field _irflow is not as irflow writes it"),
        ({"password": "p", OURS: {"since": "yesterday"}}, "its field _irflow is not as irflow writes it"),
        ({"password": 5}, "the value is not a text. Put it there in quotes"),
        ({"passwort": "p", "url": "u"}, "the document has no such field. It has passwort, url"),
        ({OURS: {}}, "the document has no such field. It has none"),
    ],
)
def test_a_document_that_cannot_be_read_says_what_is_wrong_with_it(
    vault: EmbeddedVault, session: Session, fields: dict[str, object], said: str
) -> None:
    put(vault, "strange", fields)
    with pytest.raises(ConfigurationError) as caught:
        rotator(session, "strange").sweep()
    assert str(caught.value).startswith(f"vault:{MOUNT}/strange#password: {said}")


def test_what_is_there_already_is_not_replaced_by_a_first_value(session: Session) -> None:
    with pytest.raises(Overtaken, match=r"Vault has this document already\. Nothing was changed"):
        KvDocument(session, REF).begin(SecretValue(b"mine"), {})
    assert read(session) == VALUE.encode()


def test_a_mount_may_have_slashes_in_its_name(vault: EmbeddedVault) -> None:
    root = vault.root()
    root.sys.enable_secrets_engine("kv", path="team/kv", options={"version": "2"})
    vault._until(lambda: bool(root.secrets.kv.v2.read_configuration(mount_point="team/kv")), "has no KV engine")
    root.secrets.kv.v2.create_or_update_secret("shop/db", {"password": "of the team"}, mount_point="team/kv")
    root.sys.create_or_update_policy("team", 'path "team/kv/*" { capabilities = ["read"] }')
    root.auth.approle.create_or_update_approle(ROLE, token_policies=["irflow", "team"])
    session = Session(vault.login, FileSecrets())
    found = VaultSecrets(session).resolve(SecretRef.parse("vault:team/kv/shop/db#password"))
    assert found.reveal() == b"of the team"
    assert read(session) == VALUE.encode()
    with pytest.raises(VaultPathMissing):
        VaultSecrets(session).resolve(SecretRef.parse("vault:team/kv/shop/none#password"))


def test_older_versions_are_destroyed_and_none_before_that_is_dropped(vault: EmbeddedVault, session: Session) -> None:
    document = KvDocument(session, SecretRef.parse(f"vault:{MOUNT}/aged#password"))
    found = document.begin(SecretValue(b"0"), {})
    for number in range(1, KEPT_VERSIONS):
        found = document.write(replace(found, live=SecretValue(str(number).encode())))
    kv = vault.root().secrets.kv.v2
    assert len(kv.read_secret_metadata("aged", mount_point=MOUNT)["data"]["versions"]) == KEPT_VERSIONS
    document.forget(found.version)
    versions = kv.read_secret_metadata("aged", mount_point=MOUNT)["data"]["versions"]
    assert [int(number) for number, one in versions.items() if not one["destroyed"]] == [found.version]


def test_a_document_that_others_made_is_taken_over_as_it_is(vault: EmbeddedVault, session: Session) -> None:
    vault.root().secrets.kv.v2.create_or_update_secret(
        "theirs", {"password": "p", "url": "u", "port": 1}, mount_point=MOUNT
    )
    document = KvDocument(session, SecretRef.parse(f"vault:{MOUNT}/theirs#password"))
    written = document.write(document.read())
    assert written.rest == {"url": "u", "port": 1}
    kept = vault.root().secrets.kv.v2.read_secret_version("theirs", mount_point=MOUNT, raise_on_deleted_version=True)
    assert {name: one for name, one in kept["data"]["data"].items() if name != OURS} == {
        "password": "p", "url": "u", "port": 1,
    }  # fmt: skip


def test_what_a_person_types_without_irflow_replaces_the_value(
    vault: EmbeddedVault, session: Session, tmp_path: Path
) -> None:
    guide = (Path(__file__).parents[2] / "secrets" / "README.md").read_text()
    (line,) = re.findall(r"^    vault (kv patch .*?) +#", guide, re.MULTILINE)
    subprocess.run(
        [program(), *line.split()], input=b"by hand", check=True, capture_output=True, timeout=20,
        env={"BAO_ADDR": vault.url, "BAO_CACERT": str(vault.ca), "HOME": str(tmp_path),
             "BAO_TOKEN": (vault.home / "keys" / "root.token").read_text()},
    )  # fmt: skip
    document = KvDocument(session, REF).read()
    assert document.live.reveal() == b"by hand"
    assert document.rest == {"username": "app"}
