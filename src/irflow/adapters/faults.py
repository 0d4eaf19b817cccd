"""Fault points: kill this process at a named boundary of the journal, to prove that it can die there.

`IRFLOW_FAULT=after:step.intent` kills just after such an event is durable; `...#2` the second time it happens;
`IRFLOW_FAULT_ONCE=/path` only while that file does not exist, and creates it, so that a restarted process lives on.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from irflow.core.errors import ConfigurationError

VARIABLE = "IRFLOW_FAULT"
ONCE_VARIABLE = "IRFLOW_FAULT_ONCE"
_FORM = re.compile(r"(?P<point>(before|after):[a-z][a-z._]*)(#(?P<count>[1-9][0-9]*))?")


@dataclass
class Fault:
    """Kills the process at the count-th passing of a point. once: marker file, or empty."""

    point: str
    count: int = 1
    once: str = ""
    kill: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, point: str) -> None:
        """Called by the store's writer at every point it passes."""
        if point != self.point:
            return
        self.count -= 1
        if self.count == 0 and self._first():
            self.kill()

    def _first(self) -> bool:
        if not self.once:
            return True
        try:
            os.close(os.open(self.once, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True


def from_environment(environment: Mapping[str, str] = os.environ) -> Fault | None:
    """The fault that the environment asks for. Raises ConfigurationError when it cannot be read."""
    wanted = environment.get(VARIABLE, "")
    if not wanted:
        return None
    match = _FORM.fullmatch(wanted)
    if match is None:
        hint = "Write before:KIND or after:KIND, and #N for the N-th time"
        raise ConfigurationError(f"{wanted!r} names no fault point", where=VARIABLE, hint=hint)
    return Fault(match["point"], int(match["count"] or 1), environment.get(ONCE_VARIABLE, ""))
