"""One engine process that carries out containment, and what a test needs to start, kill and pause it.

Run as `python -m tests.services.engine_process HOME INCIDENT [record FILE | die CALL | pause CALL]`. Where it dies is
said by IRFLOW_FAULT, as in production. `record` writes the fault points it passes; `die` and `pause` kill or stop it
around a call to the host: `before:isolate.sh apply`, `after:isolate.sh confirm`, or while its output is handed on:
`during:backup.sh tar`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ulid import ULID

import irflow.adapters.prober
import irflow.adapters.ssh  # noqa: F401 - loaded late otherwise, by each process that is forked from this one
from irflow import wiring
from irflow.adapters.faults import VARIABLE
from irflow.adapters.threads import ThreadExecutor
from irflow.core.inventory import Host
from irflow.core.phase import execute
from irflow.core.playbook import Phase
from irflow.core.ports import Completed, Shell, Streamed

SIGNALS = {"die": signal.SIGKILL, "pause": signal.SIGSTOP}
ROOT = Path(__file__).resolve().parents[2]


def start(home: Path, incident: str, *more: str, fault: str = "") -> subprocess.Popen[str]:
    """An engine process at work on an incident. fault: where it is to be killed."""
    environment = {**os.environ, VARIABLE: fault}
    argv = [sys.executable, "-m", "tests.services.engine_process", str(home), incident, *more]
    return subprocess.Popen(
        argv, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str], within_s: float = 60.0) -> tuple[int, str]:
    """Wait for its end: exit status (negative for a signal) and output. It is killed when it takes longer."""
    try:
        output, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        raise AssertionError(f"the engine process was still at work after {within_s:g} s:\n{output}") from None
    return process.returncode, output


def points(home: Path, incident: str, file: Path) -> list[str]:
    """The fault points that containing this incident passes, each as IRFLOW_FAULT wants it."""
    status, output = finish(start(home, incident, "record", str(file)))
    assert status == 0, output
    seen: Counter[str] = Counter()
    found = []
    for point in file.read_text().split():
        seen[point] += 1
        found.append(f"{point}#{seen[point]}")
    return found


def _recorder(file: Path) -> Callable[[str], None]:
    def record(point: str) -> None:
        with file.open("a") as out:
            out.write(f"{point}\n")

    return record


class StruckShell:
    """The real shell of a process that gets a signal just before or just after one kind of call."""

    def __init__(self, shell: Shell, point: str, number: int) -> None:
        self._shell, self._point, self._number = shell, point, number

    def run(self, host: Host, script: str, args: Sequence[str] = (), **options: Any) -> Completed:
        call = f"{script} {args[0] if args else ''}"
        self._strike(f"before:{call}")
        done = self._shell.run(host, script, args, **options)
        self._strike(f"after:{call}")
        return done

    def stream(
        self, host: Host, script: str, args: Sequence[str] = (), *, sink: Callable[[bytes], object], **options: Any
    ) -> Streamed:
        """Also struck in the middle, when the first piece has come: `during:backup.sh tar`."""
        call = f"{script} {args[0] if args else ''}"

        def struck(piece: bytes) -> None:
            sink(piece)
            self._strike(f"during:{call}")

        self._strike(f"before:{call}")
        done = self._shell.stream(host, script, args, sink=struck, **options)
        self._strike(f"after:{call}")
        return done

    def _strike(self, point: str) -> None:
        if point == self._point:
            os.kill(os.getpid(), self._number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shell, name)


def main(home: str, incident: str, mode: str = "", argument: str = "") -> int:
    """Contain the incident as far as it goes without a person."""
    if mode == "record":
        vars(wiring)["from_environment"] = lambda: _recorder(Path(argument))
    with wiring.open_runtime(wiring.load(Path(home)), process="responder") as wired, ThreadExecutor() as executor:
        if mode in SIGNALS:
            ports = wired.engine.ports
            wired.engine.ports = replace(ports, shell=StruckShell(ports.shell, argument, SIGNALS[mode]))
        result = execute(wired.engine, incident, Phase.CONTAINMENT, executor, run_id=str(ULID()), kind="threads")
    sys.stdout.write("\n".join((result.state, *result.open_items)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
