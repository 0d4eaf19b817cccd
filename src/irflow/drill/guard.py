"""A drill's guard: a process of its own that takes everything down when the drill was killed or failed to.

It reads standard input to its end. `over` there means that the drill dealt with everything itself; an end without it
means that nobody will: the stack is stopped, the lab removed, and a temporary home deleted.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from irflow.core.errors import IrflowError
from irflow.redaction import install

_OVER = b"over"
_PATIENCE_S = 30.0
_MANY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Guard:
    """Guards a drill's home. temporary: whether the home goes too."""

    def __init__(self, home: Path, *, temporary: bool) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "irflow.drill.guard", str(home.absolute()), "temporary" if temporary else "stays"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # what ends the drill's process group must not end it
            preexec_fn=_ignore_signals,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After an error the guard looks for itself whether something stayed."""
        self._process.communicate(_OVER if error is None else None)


def _ignore_signals() -> None:
    """In the child before it is a program: what is ignored stays so, from its first moment on."""
    for number in _MANY:
        signal.signal(number, signal.SIG_IGN)


def main(home: Path, temporary: bool) -> int:
    """Wait for the end of the drill. Returns the exit status: 1 when something stayed."""
    if sys.stdin.buffer.read() == _OVER:
        return 0
    stayed = 0
    for clean in (_stop_stack, _remove_lab):
        try:
            clean(home)
        except IrflowError as error:
            stayed = 1
            print(f"left by a drill: {error}", file=sys.stderr)  # noqa: T201 - nobody else is there to say it
    if temporary and not stayed:
        shutil.rmtree(home, ignore_errors=True)
    return stayed


# What follows is imported late: while a drill runs well, its guard costs next to nothing.


def _stop_stack(home: Path) -> None:
    from irflow.adapters.catalog import load_settings
    from irflow.supervisor.stack import stop_stack

    if (home / "irflow.yaml").exists():  # what comes after it may be missing
        stop_stack(load_settings(home))


def _remove_lab(home: Path) -> None:
    """Again while a program that was making it still holds it."""
    from irflow.lab.lab import down
    from irflow.lab.model import LabError

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            down(home / "lab")
            return
        except LabError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


if __name__ == "__main__":
    install()
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] == "temporary"))
