"""`irflow keyring` as people type it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Irflow

KEY = "k" * 44


@pytest.fixture
def ready(home: Path, irflow: Irflow) -> Path:
    assert irflow("init").code == 0
    settings = home / "irflow.yaml"
    settings.write_text("keyring: {backend: encrypted-file}\n")
    (home / "keys" / "keyring.key").write_text(KEY)
    (home / "keys" / "keyring.key").chmod(0o600)
    return home


def give(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogateescape"))))


def test_a_value_goes_in_is_listed_by_name_serves_a_channel_and_is_forgotten(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, "the-value\n")
    done = irflow("keyring", "set", "irflow/mail")
    assert done.code == 0, done.err
    assert "the-value" not in done.out + done.err
    assert irflow("keyring", "list", "--json").json == [{"service": "irflow", "user": "mail"}]
    assert "keyring:irflow/mail" in irflow("keyring", "list").out
    assert irflow("keyring", "delete", "irflow/mail").code == 0
    assert irflow("keyring", "list").out == "The keyring is empty\n"
    assert irflow("keyring", "delete", "irflow/mail").code == 2


def test_a_new_master_key_closes_it_to_the_old_one(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    give(monkeypatch, "the-value")
    assert irflow("keyring", "set", "irflow/mail").code == 0
    new = tmp_path / "new.key"
    new.write_text("n" * 44)
    assert irflow("keyring", "rekey", str(new)).code == 6, "others can read it"
    new.chmod(0o600)
    assert irflow("keyring", "rekey", str(new)).code == 0
    done = irflow("keyring", "list")
    assert done.code == 7
    assert "Is its master key the right one?" in done.err
    (ready / "keys" / "keyring.key").write_text("n" * 44)
    assert irflow("keyring", "list", "--json").json == [{"service": "irflow", "user": "mail"}]


@pytest.mark.parametrize(
    ("settings", "said", "code"),
    [
        ({}, "irflow.yaml: it names no keyring", 6),
        ({"keyring": {"backend": "plaintext"}}, "there is no keyring 'plaintext'", 6),
        ({"keyring": {"key": "vault:kv/x#y"}}, "irflow.yaml:1", 6),
        ({"keyring": {"key": "file:keys/none"}}, "keys/none: the secret cannot be read", 6),
    ],
)
def test_a_keyring_that_cannot_be_used_says_why(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch, settings: object, said: str, code: int
) -> None:
    (ready / "irflow.yaml").write_text(json.dumps(settings))
    give(monkeypatch, "the-value")
    done = irflow("keyring", "set", "irflow/mail")
    assert done.code == code
    assert said in done.err


def test_an_entry_is_service_and_user_and_a_value_is_not_empty(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, "\n")
    assert irflow("keyring", "set", "irflow/mail").code == 2
    assert irflow("keyring", "set", "mail").code == 2


def test_a_value_that_is_not_a_text_is_refused_and_nothing_is_written(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, b"\xff\xfe the-value".decode("utf-8", "surrogateescape"))
    done = irflow("keyring", "set", "irflow/mail")
    assert done.code == 2
    assert "the value is not UTF-8" in done.err
    assert "the-value" not in done.err
    assert irflow("keyring", "list").out == "The keyring is empty\n"
