"""A secret file is read only when nobody else can read it; what fails names the reference, never the content."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irflow.adapters.secret_files import MOST_BYTES, FileSecrets
from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.secret import SecretRef


def write(path: Path, content: bytes = b"canary\n", mode: int = 0o600) -> SecretRef:
    path.write_bytes(content)
    path.chmod(mode)
    return SecretRef.parse(f"file:{path}")


def test_the_content_comes_without_its_last_line_break(tmp_path: Path) -> None:
    assert FileSecrets().resolve(write(tmp_path / "a")).reveal() == b"canary"
    assert FileSecrets().resolve(write(tmp_path / "b", b"two\nlines\r\n")).reveal() == b"two\nlines"
    assert FileSecrets().resolve(write(tmp_path / "c", b"read-only", 0o400)).reveal() == b"read-only"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644, 0o666])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match=f"others can read the secret, its mode is {mode:04o}") as caught:
        FileSecrets().resolve(write(tmp_path / "key", mode=mode))
    assert str(tmp_path / "key") in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as caught:
        FileSecrets().resolve(SecretRef.parse(f"file:{tmp_path}/none"))
    assert caught.value.where == f"file:{tmp_path}/none"


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigurationError):
            FileSecrets().resolve(SecretRef.parse(f"file:{path}"))


def test_a_file_of_another_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = write(tmp_path / "key")
    if os.geteuid() == 0:
        os.chown(tmp_path / "key", 4711, 4711)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(ConfigurationError, match="belongs to another account"):
        FileSecrets().resolve(ref)


def test_a_file_too_large_to_be_a_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        FileSecrets().resolve(write(tmp_path / "key", bytes(MOST_BYTES + 1)))


def test_a_relative_path_is_a_systemd_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "ssh", b"from systemd")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert FileSecrets().resolve(SecretRef.parse("file:ssh")).reveal() == b"from systemd"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(ConfigurationError, match="CREDENTIALS_DIRECTORY is not set"):
        FileSecrets().resolve(SecretRef.parse("file:ssh"))


@pytest.mark.parametrize("text", ["vault:kv/app#key", "keyring:irflow/db"])
def test_another_scheme_is_a_missing_service(text: str) -> None:
    with pytest.raises(ServiceMissing, match=f"nothing here reads {text.partition(':')[0]}:"):
        FileSecrets().resolve(SecretRef.parse(text))
