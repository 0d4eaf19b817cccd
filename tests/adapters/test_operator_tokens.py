"""Tokens of irflow's page: told once, kept as hashes, dead at once where they are revoked or replaced."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irflow.adapters.operator_tokens import OperatorTokens
from irflow.core.errors import ConfigurationError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "operator-tokens.json"


@pytest.fixture
def tokens(path: Path) -> OperatorTokens:
    return OperatorTokens(path)


def test_a_token_names_its_owner_and_nothing_else_does(tokens: OperatorTokens) -> None:
    eve, bob = tokens.issue("eve"), tokens.issue("bob")
    assert (tokens.owner(eve), tokens.owner(bob)) == ("eve", "bob")
    for stranger in ("", "eve", eve[:-1], eve + "x", eve.upper(), "\ud800", "é" * 43):
        assert tokens.owner(stranger) is None


def test_before_the_first_token_nobody_is_known_and_no_file_is_made(tokens: OperatorTokens, path: Path) -> None:
    assert tokens.owner("x") is None
    assert not path.exists()


def test_a_token_has_256_bits_and_only_its_hash_is_kept_for_the_owner_alone(tokens: OperatorTokens, path: Path) -> None:
    token = tokens.issue("eve")
    assert len(token) == 43, "32 bytes in base64"
    assert token not in path.read_text()
    (kept,) = json.loads(path.read_text())["tokens"]
    assert (kept["sha256"], kept["operator"]) == (hashlib.sha256(token.encode()).hexdigest(), "eve")
    assert kept["made_at"].endswith("Z")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_token_kills_the_one_before(tokens: OperatorTokens) -> None:
    old, other = tokens.issue("eve"), tokens.issue("bob")
    new = tokens.issue("eve")
    assert (tokens.owner(old), tokens.owner(new), tokens.owner(other)) == (None, "eve", "bob")


def test_a_revoked_token_is_dead_in_every_process_that_knew_it(tokens: OperatorTokens, path: Path) -> None:
    token, elsewhere = tokens.issue("eve"), OperatorTokens(path)
    assert elsewhere.owner(token) == "eve"
    assert tokens.revoke("eve")
    assert elsewhere.owner(token) is None
    assert not tokens.revoke("eve")


ISSUE = """import pathlib, sys
from irflow.adapters.operator_tokens import OperatorTokens
print(*map(OperatorTokens(pathlib.Path(sys.argv[1])).issue, sys.argv[2:]))"""


def test_many_who_issue_at_once_lose_no_token_of_each_other(tokens: OperatorTokens, path: Path) -> None:
    names = [f"operator-{number}" for number in range(12)]
    command = [sys.executable, "-c", ISSUE, str(path), *names[6:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, ThreadPoolExecutor(6) as threads:
        here = list(threads.map(tokens.issue, names[:6]))
        there = process.communicate(timeout=60)[0].split()
    assert [tokens.owner(token) for token in [*here, *there]] == names


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tokens": [{"sha256": "x"}]}', '{"tokens": 3}'])
def test_a_damaged_file_is_an_error_that_says_which(tokens: OperatorTokens, path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is damaged") as error:
        tokens.owner("x")
    assert str(path) in str(error.value)
    assert "irflow operators token" in error.value.hint


def test_a_file_that_others_can_read_is_refused(tokens: OperatorTokens, path: Path) -> None:
    token = tokens.issue("eve")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="open to others"):
        OperatorTokens(path).owner(token)
