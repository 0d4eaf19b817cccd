"""The lab's state file, and the lock that keeps two makers out of one directory."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from irflow.lab.layout import Layout
from irflow.lab.model import LabError, LabHost, Level, State


def write(layout: Layout, state: State) -> None:
    """Replace the state file in one step."""
    fresh = layout.state.with_suffix(".new")
    fresh.write_text(json.dumps(state.to_json(), indent=1))
    fresh.replace(layout.state)


def read(layout: Layout) -> State:
    """Read the state file. Raises LabError when it is missing or not readable."""
    try:
        raw: dict[str, Any] = json.loads(layout.state.read_text())
        hosts = tuple(LabHost(**host) for host in raw["hosts"])
        keeper = raw.get("keeper", 0), raw.get("keeper_started", 0)
        return State(raw["id"], raw["name"], Level(raw["level"]), raw["ready"], hosts, *keeper)
    except FileNotFoundError:
        raise LabError("no lab here", where=str(layout.run_dir), hint="Start one: irflow lab up") from None
    except (ValueError, KeyError, TypeError) as error:
        hint = "Remove what is left with: irflow lab down"
        raise LabError(f"the state file is not readable ({error})", where=str(layout.state), hint=hint) from error


@contextmanager
def lock(run_dir: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the directory; raises LabError when another process makes or removes a lab in it.

    patience_s: how long to wait for that process: the children of a maker that was killed hold on for a moment.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    handle = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + patience_s
        while not _locked(handle):
            if time.monotonic() > deadline:
                raise LabError("another process is making or removing a lab here", where=str(run_dir))
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
