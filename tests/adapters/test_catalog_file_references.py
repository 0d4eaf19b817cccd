"""`file:` references: from the folder of the file they stand in, and by name where systemd gave a credential."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.adapters.catalog import load_inventory, load_settings, reference_from
from irflow.adapters.secret_files import FileSecrets
from irflow.core.secret import SecretRef

SETTINGS = """\
keyring: {key: 'file:given'}
vault: {url: 'https://vault.example.org', role: 'file:given', secret: 'file:keys/vault.secret'}
backup: {password: 'file:given'}
hooks: {edge: {hosts: [web-1], url: 'https://edge.example.org', key: 'file:given'}}
notify: {channels: {email: ['file:given']}}
databases: {shop: {host: db-1, user: keeper, password: 'file:given'}}
"""


@pytest.fixture
def credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which systemd gave a credential called `given`."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "given").write_text("the-value")
    (folder / "given").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def test_a_relative_file_counts_from_the_folder(tmp_path: Path) -> None:
    assert reference_from(tmp_path, "file:keys/x") == f"file:{tmp_path}/keys/x"
    assert reference_from(tmp_path, "file:/etc/x") == "file:/etc/x"
    assert reference_from(tmp_path, "file:~/x") == f"file:{Path.home()}/x"
    assert reference_from(tmp_path, "vault:kv/x#y") == "vault:kv/x#y"


def test_the_name_of_a_credential_means_the_credential(credential: Path, tmp_path: Path) -> None:
    found = reference_from(tmp_path, "file:given")
    assert FileSecrets().resolve(SecretRef.parse(found)).reveal() == b"the-value"
    assert reference_from(tmp_path, "file:keys/given") == f"file:{tmp_path}/keys/given"
    assert reference_from(tmp_path, "file:other") == f"file:{tmp_path}/other"


def test_a_credential_can_be_named_wherever_a_reference_can_stand(credential: Path, tmp_path: Path) -> None:
    (tmp_path / "irflow.yaml").write_text(SETTINGS)
    (tmp_path / "inventory.yaml").write_text("hosts: {web-1: {address: 10.0.0.1, key: 'file:given'}}\n")
    found = load_settings(tmp_path)
    assert found.keyring is not None
    assert found.vault is not None
    assert {
        found.keyring.key, found.vault.role, found.backup.password, found.hooks["edge"].key,
        *found.notify.channels["email"], found.databases["shop"].password,
        load_inventory(tmp_path / "inventory.yaml").hosts["web-1"].key,
    } == {f"file:{credential}/given"}  # fmt: skip
    assert found.vault.secret == f"file:{tmp_path}/keys/vault.secret"
