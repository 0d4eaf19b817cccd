"""`backup.emergency` on real lab hosts that are cut off: what comes out of the repository is what was on the host."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from irflow.actions.backup_emergency import BackupEmergency
from irflow.actions.host_isolate import HostIsolate
from irflow.adapters.catalog import load_settings
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.wiring import backup_repository
from tests.integration.lab_actions import Hands


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with nothing set up: all is made at the first use."""
    return tmp_path_factory.mktemp("site") / "home"


@pytest.fixture
def hands(lab: Lab, home: Path) -> Iterator[Hands]:
    made = Hands(lab, home)
    made.ports = replace(made.ports, backups=backup_repository(load_settings(home)))
    yield made
    made.close()


def sh(lab: Lab, host: LabHost, script: str) -> bytes:
    done = lab.exec(host, ["sh", "-euc", script])
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def restic(home: Path, *arguments: str) -> bytes:
    """What anybody does who has the repository and its password, and no irflow."""
    argv = ["restic", "-r", str(home / "backups"), "--password-file", str(home / "keys/backup.password"), "--no-cache"]
    return subprocess.run([*argv, *arguments], check=True, stdout=subprocess.PIPE).stdout


def test_files_of_a_host_that_is_cut_off_come_out_of_the_repository_as_they_were(
    lab: Lab, hands: Hands, home: Path
) -> None:
    host = lab.hosts[0]
    sh(
        lab,
        host,
        "mkdir -p /srv/shop; head -c 3000000 /dev/urandom >/srv/shop/data; echo conf >'/etc/odd name'; chown 33:33 /srv/shop/data",
    )
    _, cut = hands.run(HostIsolate(), host.name)
    assert cut.passed
    changes, proof = hands.run(BackupEmergency(), host.name, paths=["/srv", "/etc/odd name"])
    print(changes[0].summary, proof)
    assert proof.passed
    saved = proof.facts["backups"][0]
    content = tarfile.open(fileobj=io.BytesIO(restic(home, "dump", saved["snapshot"], saved["name"])))
    data = content.getmember("./srv/shop/data")
    assert content.extractfile(data).read() == sh(lab, host, "cat /srv/shop/data")
    assert (data.uid, data.gid) == (33, 33)
