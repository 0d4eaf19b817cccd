"""A server that runs beside the lab's hosts, on loopback, and ends with the lab."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from irflow.lab import command
from irflow.lab.lab import Lab
from irflow.lab.layout import MARKER
from irflow.lab.model import LabError

START_S = 30.0


def folder(lab: Lab, name: str) -> Path:
    """Where a server keeps its data: it goes with the lab."""
    made = lab.layout.files / "servers" / name
    made.mkdir(mode=0o700, parents=True)
    return made


def mark(lab: Lab) -> Mapping[str, str]:
    """The environment of a server: `down` finds and ends every process that carries the lab's mark."""
    return {**command.HOST_ENVIRONMENT, MARKER: lab.layout.id}


def start(lab: Lab, argv: Sequence[str], log: Path, answers: Callable[[], bool]) -> None:
    """Start a server and wait until it answers. Raises LabError with the end of its log when it does not."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True, env=mark(lab)
        )
    deadline = time.monotonic() + START_S
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise LabError(f"{argv[0]} does not answer: {log.read_text(errors='replace')[-800:]}", where=str(log))
        time.sleep(0.02)


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
