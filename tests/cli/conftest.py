"""The command line run within the test's process, exactly as `irflow` starts it."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irflow.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON; nothing else may stand there."""
        return json.loads(self.out)


Irflow = Callable[..., Done]


def run(home: Path, *arguments: str) -> Done:
    """Run one command on an installation."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["irflow", "--home", str(home), *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        return Done(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("main() returned")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where an installation is, or could be."""
    return tmp_path / "home"


@pytest.fixture
def irflow(home: Path) -> Iterator[Irflow]:
    """`irflow --home HOME ...`."""
    yield lambda *arguments: run(home, *arguments)
