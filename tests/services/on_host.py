"""What tests do on a lab host, behind irflow's back, and how they wait for what it does."""

from __future__ import annotations

import time
from collections.abc import Callable

from irflow.lab.lab import Lab
from irflow.lab.model import LabHost


def on(lab: Lab, host: LabHost, script: str, stdin: bytes | None = None, args: list[str] | tuple[str, ...] = ()) -> str:
    """Run a script as root on a host and return what it prints. Raises AssertionError with its error output."""
    done = lab.exec(host, ["sh", "-euc", script, "sh", *args], stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def until(happened: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
