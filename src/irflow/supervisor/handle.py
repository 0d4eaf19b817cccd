"""Our end of a supervisor's process: start it, hear of it, stop it or leave it alone."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from irflow.core.errors import ServiceMissing
from irflow.supervisor.child import pid_file
from irflow.supervisor.service import Service

Report = Callable[[str], None]

STOP_S = 40.0


class Handle:
    """A supervisor's process. report: called with one line per event, from a thread of its own."""

    def __init__(self, services: Sequence[Service], run_dir: Path, logs: Path, report: Report) -> None:
        self._services, self._run_dir, self._logs, self._report = tuple(services), run_dir, logs, report
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._ended = threading.Event()
        self._failure: ServiceMissing | None = None

    def start(self) -> None:
        """Start everything and wait until all is ready. Raises ServiceMissing; then nothing is left."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "irflow.supervisor"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        spec = {
            "services": [one.to_data() for one in self._services],
            "run": str(self._run_dir.absolute()),
            "logs": str(self._logs.absolute()),
        }
        self._send(json.dumps(spec).encode())
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="supervisor", daemon=True)
        self._reader.start()
        try:
            while "up" not in (event := self._events.get()):
                if "ended" in event:
                    raise self._failure or ServiceMissing("the supervisor ended", where=str(self._logs))
        except BaseException:  # also Ctrl-C: nothing may stay
            self.stop()
            raise

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is not None:
            for line in process.stdout:
                message = json.loads(line)
                if "say" in message:
                    self._report(message["say"])
                elif "failed" in message:
                    self._failure = ServiceMissing(**message["failed"])
                self._events.put(message)
        self._events.put({"ended": True})
        self._ended.set()

    def pids(self) -> dict[str, int]:
        """The process ids of what runs now, the supervisor's own with them."""
        found = {"supervisor": self._process.pid} if self._process else {}
        for service in self._services:
            with contextlib.suppress(OSError, ValueError):
                found[service.name] = int(pid_file(self._run_dir, service.name).read_text())
        return found

    def watch(self) -> None:
        """Wait until everything has ended. Raises ServiceMissing when that was not asked for."""
        while not self._ended.wait(1.0):  # in turns, so that Ctrl-C is heard
            pass
        if self._failure is not None:
            raise self._failure

    def detach(self) -> None:
        """Leave everything running, also after this process has ended."""
        self._send(b"detach")
        while not {"detached", "ended"} & set(self._events.get(timeout=STOP_S)):
            pass
        self._forget()

    def stop(self) -> None:
        """End everything and wait for it. Twice is fine."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            self._send(b"stop")
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()  # and the kernel all that it started
            process.wait()
        self._forget()

    def _forget(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        if process is not None and process.poll() is None:
            process.returncode = 0  # left to itself: nobody here waits for it any more
        if self._reader is not None:
            self._reader.join(5)
        if process is not None and process.stdout is not None:
            process.stdout.close()

    def _send(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
