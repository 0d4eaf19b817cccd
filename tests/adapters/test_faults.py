"""Fault points from the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from irflow.adapters.faults import from_environment
from irflow.core.errors import ConfigurationError

SCRIPT = """
import sys
from irflow.adapters.faults import from_environment
fault = from_environment()
for point in sys.argv[1:]:
    print(point, flush=True)
    if fault:
        fault(point)
"""


def run(fault: str, *points: str, once: Path | None = None) -> tuple[int, list[str]]:
    """(exit status, points passed) of a process with a fault."""
    environment = os.environ | {"IRFLOW_FAULT": fault} | ({"IRFLOW_FAULT_ONCE": str(once)} if once else {})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *points],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.split()


def test_the_process_dies_at_the_named_point_and_nowhere_else() -> None:
    points = ("before:step.intent", "after:note", "after:step.intent", "after:step.outcome")
    assert run("after:step.intent", *points) == (-signal.SIGKILL, list(points[:3]))
    assert run("", *points) == (0, list(points))
    assert run("after:halted", *points) == (0, list(points))


def test_a_number_counts_the_passings() -> None:
    assert run("after:note#2", *["after:note"] * 3) == (-signal.SIGKILL, ["after:note"] * 2)


def test_once_means_once_across_restarts(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    assert run("after:note", "after:note", once=marker)[0] == -signal.SIGKILL
    assert marker.exists()
    assert run("after:note", "after:note", once=marker)[0] == 0


@pytest.mark.parametrize("wrong", ["note", "during:note", "after:", "after:note#0", "after:note#x", "after:NOTE"])
def test_a_point_that_cannot_be_read_is_an_error(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="fault point"):
        from_environment({"IRFLOW_FAULT": wrong})


def test_no_wish_no_fault() -> None:
    assert from_environment({}) is None
