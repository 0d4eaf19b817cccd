"""`irflow vault`: a first start may be cut off anywhere, and a server that is sealed is told and unsealed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.adapters.vault.embedded import MOUNT, end, running_vault
from tests.cli.conftest import run

pytestmark = pytest.mark.timeout(120)

CUT_OFF = """
import os, signal, sys
from pathlib import Path
from irflow.adapters.vault import embedded
place = embedded.EmbeddedVault if sys.argv[2] == "provision" else embedded
setattr(place, sys.argv[2], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
embedded.EmbeddedVault(Path(sys.argv[1])).start()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    end(tmp_path / "home" / "vault")


@pytest.mark.parametrize("place", ["write_private", "provision"], ids=["before its key is kept", "before it is set up"])
def test_a_first_start_that_was_cut_off_is_begun_anew(home: Path, place: str) -> None:
    killed = subprocess.run([sys.executable, "-c", CUT_OFF, str(home / "vault"), place], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert run(home, "vault", "status").out == "half made; irflow vault up makes it anew\n"
    up = run(home, "vault", "up")
    assert up.code == 0, up.err
    vault = running_vault(home / "vault")
    assert vault is not None
    vault.root().secrets.kv.v2.create_or_update_secret("kept", {"password": "p"}, mount_point=MOUNT)
    assert run(home, "vault", "down").out == "stopped\n"
    assert run(home, "vault", "up").code == 0, "once it was made it is never made anew"
    assert vault.root().secrets.kv.v2.read_secret_metadata("kept", mount_point=MOUNT)["data"]["current_version"] == 1


def test_a_sealed_one_is_told_and_unsealed_by_up(home: Path) -> None:
    assert run(home, "vault", "up").code == 0
    vault = running_vault(home / "vault")
    assert vault is not None
    again = run(home, "vault", "up")
    assert again.code == 2
    assert "it is running already" in again.err
    vault.root().sys.seal()
    sealed = run(home, "vault", "status")
    assert sealed.code == 7
    assert "sealed; irflow vault up unseals it" in sealed.out
    assert run(home, "vault", "status", "--json").json["sealed"] is True
    assert run(home, "vault", "up").code == 0
    status = run(home, "vault", "status")
    assert status.code == 0
    assert "sealed" not in status.out
    assert run(home, "vault", "down").out == "stopped\n"
    assert run(home, "vault", "status").out == "not running\n"
