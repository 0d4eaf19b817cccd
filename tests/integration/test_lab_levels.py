"""An ordinary user gets real hosts where sub-ids allow them, and else loopback ones, and is told why.

The account and its sub-ids exist only in a mount namespace of the test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import irflow
from irflow.core.errors import ServiceMissing
from irflow.lab import ladder, loopback
from irflow.lab.lab import Lab
from irflow.lab.layout import Layout
from irflow.lab.model import LabError, Level
from tests.integration.lab_leftovers import leftovers

_UID = "4242"
_BECOME = """\
set -eu
for f in passwd group; do mount --bind "$1/$f" "/etc/$f"; done
for f in subuid subgid; do mount --bind "$1/sub" "/etc/$f"; done
d=$1; shift; cd "$d/home"
exec setpriv --reuid=4242 --regid=4242 --clear-groups env -i HOME="$d/home" PATH=/usr/sbin:/usr/bin:/sbin:/bin \\
    PYTHONPATH="$d/src" PYTHONDONTWRITEBYTECODE=1 "$@"
"""
_SYSTEM_PYTHON = "/usr/bin/python3"  # any account may run it, wherever the one that runs the tests lives


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory open to the stand-in account: its home, a copy of the code, and its account files."""
    folder = Path(tempfile.mkdtemp(prefix="irflow-level-"))
    folder.chmod(0o755)
    (folder / "home").mkdir()
    shutil.chown(folder / "home", int(_UID), int(_UID))
    code = Path(irflow.__file__).parent
    shutil.copytree(code / "lab", folder / "src/irflow/lab")
    shutil.copytree(code / "core", folder / "src/irflow/core")
    for name in ("__init__.py", "redaction.py"):
        shutil.copy(code / name, folder / "src/irflow" / name)
    shutil.copy(Path(__file__).with_name("lab_as_user.py"), folder / "as_user.py")
    account = f"standin:x:{_UID}:{_UID}::{folder}/home:/bin/sh\n"
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + account)
    (folder / "group").write_text(Path("/etc/group").read_text() + f"standin:x:{_UID}:\n")
    yield folder
    shutil.rmtree(folder)


def run_as_user(place: Path, sub_ids: str, *, entered: bool) -> dict[str, Any]:
    (place / "sub").write_text(sub_ids)
    command = [_SYSTEM_PYTHON, str(place / "as_user.py"), str(place / "home/run")]
    inner = ladder.entered(command) if entered else command
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", _BECOME, "sh", str(place), *inner], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    # The stand-in's mount namespace names `place`: whatever still runs in it was left behind.
    assert leftovers(place, Layout(place / "home/run").id) == []
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_an_ordinary_user_with_sub_ids_gets_real_hosts(place: Path) -> None:
    facts = run_as_user(place, "standin:300000:65536\n", entered=True)
    assert facts["level"] == "userns"
    assert "within a user namespace" in facts["explained"]
    assert facts["login"] == "root\nweb-1"
    assert facts["sudo"] == "0"
    assert facts["diff"] == []
    assert facts["before"] == [True, True, "open"]
    assert facts["cut"] == [False, False, "silent"]
    assert facts["after"] == [False, False]
    assert facts["left"] == [False]


def test_an_ordinary_user_without_sub_ids_gets_loopback_hosts_and_the_reason(place: Path) -> None:
    facts = run_as_user(place, "someoneelse:300000:65536\n", entered=False)
    assert facts["level"] == "loopback"
    assert "not root: not root (uid 4242)" in facts["explained"]
    assert "add the line standin:100000:65536" in facts["explained"]
    assert facts["login"].startswith("standin\n")
    assert facts["before"] == [True, True, "open"]
    assert facts["after"] == [False, False]
    assert facts["left"] == [False]


def test_a_level_that_needs_a_user_namespace_is_refused_outside_one(tmp_path: Path) -> None:
    with pytest.raises(ServiceMissing, match="userns"):
        Lab.up(1, tmp_path / "run", level=Level.USERNS)
    assert not (tmp_path / "run").exists()


_LOOPBACK = """\
import sys, pathlib
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabError, Level
with Lab.up(2, pathlib.Path(sys.argv[1]), level=Level.LOOPBACK) as lab:
    for host in lab.hosts:
        print(lab.run_from("responder", [*vantage.ssh_argv(lab, host, "responder"), "id -u"]).stdout.decode().strip())
"""


def test_root_has_loopback_hosts_where_no_sshd_ever_ran(tmp_path: Path) -> None:
    hide = "mount -t tmpfs none /run; mkdir -p /run/netns; exec " + sys.executable + ' -c "$0" "$1"'
    argv = ["unshare", "-m", "sh", "-c", hide, _LOOPBACK, str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0\n0\n"), done.stderr
    assert leftovers(tmp_path / "run", Layout(tmp_path / "run").id) == []


def test_an_sshd_that_does_not_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "_SSHD", loopback._SSHD + "NoSuchOption yes\n")
    with pytest.raises(LabError, match="NoSuchOption"):
        Lab.up(1, tmp_path / "run", level=Level.LOOPBACK)
    assert leftovers(tmp_path / "run", Layout(tmp_path / "run").id) == []
