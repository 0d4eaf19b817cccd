"""The guard does nothing for a drill that dealt with everything, and everything for one that did not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from irflow.drill.guard import Guard


def guard(home: Path, word: str, said: bytes) -> int:
    argv = [sys.executable, "-m", "irflow.drill.guard", str(home), word]
    return subprocess.run(argv, input=said, timeout=60).returncode


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home/documents").mkdir(parents=True)
    return tmp_path / "home"


def test_a_drill_that_is_over_keeps_its_home(home: Path) -> None:
    assert guard(home, "temporary", b"over") == 0
    assert (home / "documents").exists()


@pytest.mark.parametrize("said", [b"", b"ov"])
def test_a_drill_that_broke_off_loses_a_temporary_home_only(said: bytes, home: Path) -> None:
    assert guard(home, "stays", said) == 0
    assert (home / "documents").exists()
    assert guard(home, "temporary", said) == 0
    assert not home.exists()


def test_an_error_in_the_drill_is_no_word_that_it_is_over(home: Path) -> None:
    with pytest.raises(RuntimeError), Guard(home, temporary=True):
        raise RuntimeError
    assert not home.exists()


def test_what_interrupts_the_drill_does_not_interrupt_its_guard(home: Path) -> None:
    with Guard(home, temporary=True) as one:
        assert os.getpgid(one._process.pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            one._process.send_signal(number)
    assert one._process.returncode == 0
    assert home.exists()
