"""Engine processes by the hundred: each is forked from one that has everything imported already.

The parent is `python -m tests.services.engines DIRECTORY`. It reads a case per line from standard input (JSON: number,
home, incident, more, fault), forks, and writes `[number, status]` when the child has ended; what the child prints is in
DIRECTORY/NUMBER. The parent has one thread only, so that a fork is safe.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from irflow.adapters.faults import VARIABLE

ROOT = Path(__file__).resolve().parents[2]


class Engines:
    """Starts engines and says how each ended. Safe to use from several threads."""

    def __init__(self, parent: subprocess.Popen[bytes], directory: Path) -> None:
        self._parent, self._directory = parent, directory
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[int]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def run(self, home: Path, incident: str, *more: str, fault: str = "", within_s: float = 90.0) -> tuple[int, str]:
        """Contain an incident in a process of its own: exit status (negative for a signal) and output.

        more and fault: as in `engine_process`. Raises TimeoutError when it takes longer than within_s seconds.
        """
        case = {"home": str(home), "incident": incident, "more": more, "fault": fault}
        with self._lock:
            number = len(self._waiting)
            ended = self._waiting[number] = Future()
            assert self._parent.stdin is not None
            self._parent.stdin.write(json.dumps({"number": number, **case}).encode() + b"\n")
            self._parent.stdin.flush()
        status = ended.result(within_s)
        return status, (self._directory / str(number)).read_text()

    def _read(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            number, status = json.loads(line)
            self._waiting[number].set_result(status)
        for left in self._waiting.values():
            if not left.done():
                left.set_exception(AssertionError("the process that forks the engines has ended"))


@contextmanager
def engines(directory: Path) -> Iterator[Engines]:
    """The parent, and at the end its end and that of all its children. directory: where their output goes."""
    directory.mkdir()
    argv = [sys.executable, "-m", "tests.services.engines", str(directory)]
    parent = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None
    made = Engines(parent, directory)
    try:
        yield made
    finally:
        parent.stdin.close()
        try:
            parent.wait(20)
        finally:
            parent.kill()
            parent.wait()


def _child(case: dict[str, Any], output: Path) -> int:
    from tests.services import engine_process

    with output.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    if case["fault"]:
        os.environ[VARIABLE] = case["fault"]
    return engine_process.main(case["home"], case["incident"], *case["more"])


def _fork(case: dict[str, Any], output: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        status = _child(case, output)
    except BaseException:  # a child must not go on as its parent, whatever happened
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(status)


def main(directory: Path) -> int:
    """Fork until standard input ends, then wait for the last child; a child that hangs is killed by nobody but it."""
    from tests.services import engine_process  # what the children find imported

    assert engine_process
    ready, rest = selectors.DefaultSelector(), b""
    ready.register(0, selectors.EVENT_READ)
    while ready.get_map():
        for key, _ in ready.select():
            if key.fd == 0:
                more = os.read(0, 65536)
                if not more:
                    ready.unregister(0)
                *lines, rest = (rest + more).split(b"\n")
                for line in lines:
                    case = json.loads(line)
                    pid = _fork(case, directory / str(case["number"]))
                    ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, case["number"]))
                continue
            pid, number = key.data
            ready.unregister(key.fd)
            os.close(key.fd)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(1, json.dumps([number, status]).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
