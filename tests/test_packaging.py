"""What is in the wheel: all that irflow needs on a machine that has no clone of it."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "irflow"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built as a release would be, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("kind", ["runbooks", "playbooks", "secrets/policies"])
def test_the_wheel_holds_every_shipped_procedure(wheel: zipfile.ZipFile, kind: str) -> None:
    here = {path.name: path.read_bytes() for path in (ROOT / kind).iterdir()}
    assert here
    for file, content in here.items():
        assert wheel.read(f"irflow/shipped/{kind}/{file}") == content


@pytest.mark.parametrize("pattern", ["remote/*.sh", "templates/**/*.j2", "**/migrations/versions/r*.py", "py.typed"])
def test_the_wheel_holds_what_is_not_imported_but_read(wheel: zipfile.ZipFile, pattern: str) -> None:
    here = [path.relative_to(SOURCE.parent).as_posix() for path in SOURCE.glob(pattern)]
    assert here
    assert set(here) <= set(wheel.namelist())


def test_the_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    others = [name for name in wheel.namelist() if not name.startswith(("irflow/", "irflow-"))]
    assert others == []
    assert not [name for name in wheel.namelist() if name.endswith((".pyc", ".db", ".key", ".pem"))]


def test_the_wheel_tells_pip_and_prefect_where_to_start(wheel: zipfile.ZipFile) -> None:
    (declared,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(declared).decode())
    assert entry_points["console_scripts"]["irflow"] == "irflow.cli.main:main"
    assert entry_points["prefect.collections"]["irflow"] == "irflow.flows.worker"


def test_irflow_works_from_the_wheel_alone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "IRFLOW_HOME": str(tmp_path / "home")}
    for command in ("init", "check"):
        run = subprocess.run(
            [sys.executable, "-m", "irflow", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
    runbooks, playbooks = (len([*(ROOT / folder).glob("*.yaml")]) for folder in ("runbooks", "playbooks"))
    assert f"{runbooks} runbooks, {playbooks} playbooks" in run.stdout
