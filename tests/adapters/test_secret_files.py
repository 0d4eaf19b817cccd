"""A secret comes out of a file only when nobody but this account and root can have read or written it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from irflow.adapters.secret_files import MOST_BYTES, FileSecrets
from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.secret import SecretRef

VALUE = b"correct horse"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(VALUE)
    path.chmod(0o600)
    return path


def reveal(path: Path | str) -> bytes:
    return FileSecrets().resolve(SecretRef.parse(f"file:{path}")).reveal()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_for_its_owner_alone_is_read(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    assert reveal(secret) == VALUE


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o601, 0o644, 0o666])
def test_a_file_open_to_others_is_refused_with_its_mode(secret: Path, mode: int) -> None:
    secret.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"its mode is {mode:04o}") as caught:
        reveal(secret)
    assert f"chmod 600 {secret}" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"a\n", b"a"), (b"a\r\n", b"a"), (b"a\n\n", b"a\n"), (b" a ", b" a "), (b"a\0\xff\n", b"a\0\xff"), (b"", b"")],
)
def test_one_final_line_break_goes_and_every_other_byte_stays(secret: Path, content: bytes, value: bytes) -> None:
    secret.write_bytes(content)
    assert reveal(secret) == value


def test_a_file_of_another_account_is_refused(secret: Path) -> None:
    os.chown(secret, 12345, -1)
    with pytest.raises(ConfigurationError, match="another account, uid 12345"):
        reveal(secret)


def test_a_missing_file_is_named_and_nothing_else_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as caught:
        reveal(tmp_path / "absent")
    assert caught.value.where == f"file:{tmp_path / 'absent'}"
    assert caught.value.__suppress_context__


def test_a_link_is_judged_by_the_file_it_leads_to(secret: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(secret)
    assert reveal(link) == VALUE
    secret.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others can read"):
        reveal(link)
    secret.unlink()
    with pytest.raises(ConfigurationError, match="no such file"):
        reveal(link)


def test_a_link_to_itself_is_an_error_and_no_endless_walk(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(ConfigurationError, match="too many levels of symbolic links"):
        reveal(link)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    caught: list[Exception] = []

    def read() -> None:
        try:
            reveal(pipe)
        except ConfigurationError as error:
            caught.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)
    assert not reader.is_alive()
    assert "not a regular file" in str(caught[0])


@pytest.mark.parametrize("place", ["/dev/null", "/dev/zero", "/"])
def test_devices_and_directories_are_refused(place: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a regular file|is a directory"):
        reveal(place)


def test_a_file_too_large_to_be_a_secret_is_refused_unread(secret: Path) -> None:
    with secret.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        reveal(secret)


def test_a_relative_path_is_a_systemd_credential(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    assert reveal("key") == VALUE


def test_a_relative_path_without_systemd_never_means_the_current_folder(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.chdir(secret.parent)
    with pytest.raises(ConfigurationError, match="systemd credential"):
        reveal("key")


def test_a_path_may_begin_with_the_home_folder(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(secret.parent))
    assert reveal("~/key") == VALUE


@pytest.mark.parametrize("reference", ["vault:kv/app/db#password", "keyring:irflow/db"])
def test_other_kinds_of_references_are_not_read_as_files(reference: str) -> None:
    with pytest.raises(ServiceMissing, match=f"reads {reference.split(':')[0]}: references") as caught:
        FileSecrets().resolve(SecretRef.parse(reference))
    assert caught.value.where == reference


def test_the_value_shows_in_no_text(secret: Path) -> None:
    value = FileSecrets().resolve(SecretRef.parse(f"file:{secret}"))
    assert VALUE.decode() not in f"{value!r} {value} {[value]}"
