"""Where backups go, as irflow.yaml says it: paths from home, and no password where anybody could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.adapters.catalog import load_settings
from irflow.core.errors import ConfigurationErrors
from irflow.wiring import backup_repository


def settings(home: Path, text: str) -> tuple[str, str]:
    (home / "irflow.yaml").write_text(f"backup: {text}\n")
    backup = load_settings(home).backup
    return backup.repository, backup.password


@pytest.mark.parametrize(
    ("written", "repository", "password"),
    [
        ("{}", "{home}/backups", ""),
        ("{repository: elsewhere}", "{home}/elsewhere", ""),
        ("{repository: 'local:/mnt/backups'}", "/mnt/backups", ""),
        ("{repository: 'sftp:backup@host:/folder'}", "sftp:backup@host:/folder", ""),
        ("{repository: 'rest:https://host/folder'}", "rest:https://host/folder", ""),
        ("{password: 'file:keys/backup.password'}", "{home}/backups", "file:{home}/keys/backup.password"),
        ("{password: 'file:/root/pw'}", "{home}/backups", "file:/root/pw"),
        ("{password: 'vault:kv/backup#password'}", "{home}/backups", "vault:kv/backup#password"),
        ("{repository: 'file:keys/location'}", "file:{home}/keys/location", ""),
    ],
)
def test_paths_are_taken_from_home(tmp_path: Path, written: str, repository: str, password: str) -> None:
    assert settings(tmp_path, written) == (repository.format(home=tmp_path), password.format(home=tmp_path))


@pytest.mark.parametrize(
    "written",
    [
        "{repository: 'rest:https://user:canary@host/folder'}", "{password: canary}", "{password: 'vault:canary'}",
        "{repository: 'file:'}", "{parallel: 0}", "{keep_free_mb: -1}", "{pasword: 'file:x'}",
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line_and_without_any_secret(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigurationErrors) as caught:
        settings(tmp_path, written)
    assert f"{tmp_path / 'irflow.yaml'}:1" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    backups = backup_repository(load_settings(tmp_path))
    assert backups.find(["none"], timeout_s=5) == ()
    assert backups.room()
    assert list(tmp_path.iterdir()) == []
