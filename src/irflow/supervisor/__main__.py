"""The supervisor's process: told what to run on standard input, it answers on standard output, in lines of JSON.

In: {"services": [...], "run": FOLDER, "logs": FOLDER}, later `stop` or `detach`. Out: {"say": TEXT} ..., {"up": true},
{"detached": true}, {"failed": {"message", "where", "hint"}}, {"stopped": true}. When its input ends and it was not
detached, whoever started it is gone, and it stops everything; SIGTERM does the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from irflow.core.errors import ServiceMissing
from irflow.core.revealed import redact
from irflow.redaction import install
from irflow.supervisor.service import Service
from irflow.supervisor.supervisor import Supervisor

TICK_S = 0.05
CALM_TICK_S = 0.2


class Process:
    """One supervisor and the conversation about it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        services = [Service.from_data(one) for one in spec["services"]]
        self._log = Path(spec["logs"]) / "supervisor.log"
        self._supervisor = Supervisor(services, Path(spec["run"]), Path(spec["logs"]), self._say)
        self._listening, self._stop, self._up = True, False, False

    def run(self) -> int:
        """Until told to stop. Returns the exit status."""
        signal.signal(signal.SIGTERM, self._terminated)
        try:
            self._supervisor.prepare()
            while not self._stop:
                self._supervisor.tick()
                if self._supervisor.up and not self._up:
                    self._up = True
                    self._tell({"up": True})
                self._listen(CALM_TICK_S if self._up else TICK_S)
        except ServiceMissing as error:
            self._say(f"giving up: {error}")
            self._supervisor.stop()
            self._tell({"failed": {"message": error.message, "where": error.where, "hint": error.hint}})
            return error.exit_code
        self._supervisor.stop()
        self._tell({"stopped": True})
        return 0

    def _terminated(self, *_: object) -> None:
        self._stop = True

    def _listen(self, seconds: float) -> None:
        """Wait a moment for a command."""
        ready, _, _ = select.select([0] if self._listening else [], [], [], seconds)
        if not ready:
            return
        word = os.read(0, 4096)
        if b"detach" in word:
            self._listening = False
            self._tell({"detached": True})
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):  # else whoever reads ours to its end would wait for the stack
                os.dup2(null, descriptor)
        else:
            self._stop = True  # told so, or whoever listened is gone

    def _say(self, text: str) -> None:
        text = redact(text)
        with contextlib.suppress(OSError), self._log.open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        self._tell({"say": text})

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps(message).encode() + b"\n")


def main() -> int:
    """Read the specification, run it."""
    install()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 1)
        if not data:
            return 1
        line += data
    return Process(json.loads(line)).run()


if __name__ == "__main__":
    sys.exit(main())
