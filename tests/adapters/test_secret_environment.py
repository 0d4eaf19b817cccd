"""`env:` references: only for what opens Vault and the keyring, and handed on to no other program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from irflow.adapters.catalog import load_settings
from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.adapters.secret_environment import EnvironmentSecrets, without_secrets
from irflow.core.errors import ConfigurationError, ConfigurationErrors
from irflow.core.secret import SecretRef, SecretValue
from irflow.supervisor.child import Child
from irflow.supervisor.service import Ready, Service
from irflow.wiring.secrets import secret_store, vault_session

NAME = "IRFLOW_SECRET_KEYRING"


def test_the_keyring_opens_with_a_key_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "irflow.yaml").write_text(f"keyring: {{file: keyring, key: 'env:{NAME}'}}\n")
    key = "0123456789abcdef0123456789abcdef"
    EncryptedFileKeyring(tmp_path / "keyring", lambda: SecretValue(key.encode())).set_password(
        "shop", "db", "its value"
    )
    monkeypatch.setenv(NAME, key)
    store = secret_store(load_settings(tmp_path))
    assert store.resolve(SecretRef.parse("keyring:shop/db")).reveal() == b"its value"


def test_vault_may_be_opened_by_them(tmp_path: Path) -> None:
    vault = f"{{url: 'https://127.0.0.1:1', role: 'env:{NAME}_R', secret: 'env:{NAME}_S'}}"
    (tmp_path / "irflow.yaml").write_text(f"vault: {vault}\n")
    with pytest.raises(ConfigurationError, match=f"env:{NAME}_R: the variable is not set"):
        vault_session(load_settings(tmp_path)).describe()


@pytest.mark.parametrize(
    "text",
    [
        "databases: {shop: {host: h, user: u, password: 'env:IRFLOW_SECRET_X'}}",
        "notify: {channels: {email: ['env:IRFLOW_SECRET_X']}}",
        "keyring: {key: 'env:HOME'}",
        "vault: {url: 'https://v', secret: 'env:VAULT_TOKEN'}",
    ],
)
def test_nothing_else_may_be_in_the_environment(tmp_path: Path, text: str) -> None:
    (tmp_path / "irflow.yaml").write_text(f"{text}\n")
    with pytest.raises(ConfigurationErrors, match="only what opens Vault or the keyring"):
        load_settings(tmp_path)


def test_what_is_not_set_is_an_error_not_an_empty_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "")
    with pytest.raises(ConfigurationError, match="is not set"):
        EnvironmentSecrets().resolve(SecretRef.parse(f"env:{NAME}", bootstrap=True))


def test_other_programs_are_started_without_them() -> None:
    assert without_secrets({NAME: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("ours", [True, False])
def test_of_a_stack_only_our_own_processes_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    monkeypatch.setenv(NAME, "hidden")
    told = tmp_path / "told"
    code = f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(os.environ.get({NAME!r}, 'nothing'))"
    child = Child(Service("one", (sys.executable, "-c", code), Ready("file", str(told)), ours=ours), tmp_path, tmp_path)
    child.start()
    pid = int(next(tmp_path.rglob("*.pid")).read_text())
    os.waitpid(pid, 0)
    assert told.read_text() == ("hidden" if ours else "nothing")
