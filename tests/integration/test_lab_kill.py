"""Whenever the maker of a lab is killed, `down` leaves nothing of the lab."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from irflow.lab.lab import Lab, down
from irflow.lab.layout import Layout
from irflow.lab.model import LabError, Level
from tests.integration.lab_leftovers import leftovers

_MAKER = "import sys, pathlib; from irflow.lab.lab import Lab; Lab.up(6, pathlib.Path(sys.argv[1])); print('up')"


def make(run_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _MAKER, str(run_dir)], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def usual_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long making the lab takes here and now."""
    run_dir = tmp_path_factory.mktemp("usual") / "run"
    began = time.monotonic()
    with make(run_dir) as maker:
        assert maker.wait(timeout=60) == 0
    took = time.monotonic() - began
    down(run_dir)
    return took


@pytest.mark.parametrize("part", [n / 16 for n in range(2, 17)])
def test_a_maker_killed_at_any_point_leaves_nothing_after_down(part: float, usual_s: float, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    lab_id = Layout(run_dir).id
    with make(run_dir) as maker:
        try:
            maker.wait(timeout=usual_s * part)
        except subprocess.TimeoutExpired:
            maker.kill()
    try:
        down(run_dir)
        assert leftovers(run_dir, lab_id) == []
        assert not run_dir.exists()
    finally:
        down(run_dir)


def test_the_hosts_outlive_their_maker_and_go_with_down(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with make(run_dir) as maker:
        assert maker.wait(timeout=60) == 0
    try:
        lab = Lab.load(run_dir)
        idle = lab.popen_from("attacker", ["sleep", "600"])
        assert len(leftovers(run_dir, lab.layout.id)) > 6 * 2, "the finder of leftovers must find a living lab"
    finally:
        down(run_dir)
    assert idle.wait(timeout=10) != 0, "what runs at a vantage point goes too"
    for pipe in (idle.stdin, idle.stdout, idle.stderr):
        assert pipe is not None
        pipe.close()
    assert leftovers(run_dir, lab.layout.id) == []


def test_a_half_made_lab_is_replaced_by_the_next_up(usual_s: float, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with make(run_dir) as maker:
        deadline = time.monotonic() + 30
        while not (run_dir / "lab.json").exists() and time.monotonic() < deadline:
            pass
        maker.kill()
    try:
        with pytest.raises(LabError):
            Lab.load(run_dir)
        assert len(Lab.up(1, run_dir, level=Level.ROOT).hosts) == 1
    finally:
        down(run_dir)
    assert leftovers(run_dir, Layout(run_dir).id) == []


def test_a_lab_that_cannot_be_made_cleans_up_after_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "run"
    monkeypatch.setattr("irflow.lab.fabric._port", lambda index: "a-name-too-long-for-a-network-card")
    with pytest.raises(LabError, match="ip "):
        Lab.up(2, run_dir, level=Level.ROOT)
    assert leftovers(run_dir, Layout(run_dir).id) == []
