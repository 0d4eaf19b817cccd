"""One child process of the supervisor: started in a group of its own, noted, ended; and those an earlier one left."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from irflow.adapters.secret_environment import without_secrets
from irflow.supervisor.service import Service

STACK_VARIABLE = "IRFLOW_STACK"
"""Every process of a stack carries its run folder in its environment; by that it is known after a crash."""
MOST_LOG = 4 << 20
"""A log larger than this (bytes) is started anew at the next start; the old one is kept beside it."""
TAIL_LINES = 8

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Child:
    """A service and its process. run_dir: where its process id is noted. logs: where its output goes."""

    def __init__(self, service: Service, run_dir: Path, logs: Path) -> None:
        self.service = service
        self.log = logs / f"{service.name}.log"
        self._run_dir = run_dir
        self._note = pid_file(run_dir, service.name)
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.ready = False
        self.told_late = 0.0

    def start(self) -> None:
        """Start it; the kernel ends it when the supervisor ends, however that happens."""
        service = self.service
        if service.ready.kind == "file":
            Path(service.ready.where).unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > MOST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        inherited = os.environ if service.ours else without_secrets(os.environ)
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                service.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**inherited, **service.env, STACK_VARIABLE: str(self._run_dir)},
                preexec_fn=die_with_parent(os.getpid(), signal.SIGKILL),
            )  # fmt: skip
        self.started_at = self.told_late = time.monotonic()
        self.ready = False
        self._note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._note.write_text(f"{self._process.pid}\n")

    @property
    def running(self) -> bool:
        """Whether it was started and its end has not been dealt with."""
        return self._process is not None

    def status(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll() if self._process else None

    def tail(self) -> str:
        """The last lines of its log, indented."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 8192))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            text = ""
        lines = text.strip().splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"

    def signal(self, number: signal.Signals) -> None:
        """To its whole group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def bury(self) -> None:
        """Kill it if it lives, and forget it. What it started may end in order: flow runs finish their step."""
        if self._process is not None:
            self.signal(signal.SIGTERM if self._process.poll() is not None else signal.SIGKILL)
            self._process.wait()
            self._process = None
            self._note.unlink(missing_ok=True)


def pid_file(run_dir: Path, name: str) -> Path:
    """Where the process id of a service is noted while it runs."""
    return run_dir / "pids" / f"{name}.pid"


def die_with_parent(parent: int, number: signal.Signals) -> Callable[[], None]:
    """For preexec_fn: have the kernel send a signal when the parent dies (prctl(2), PR_SET_PDEATHSIG)."""

    def in_child() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


def end_leftovers(run_dir: Path) -> list[int]:
    """Kill every process of an earlier stack of this folder; call it with the lock held. Returns their ids."""
    mark = f"{STACK_VARIABLE}={run_dir}".encode()
    ended = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if pid != os.getpid() and mark in path.read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
                ended.append(pid)
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in ended) and time.monotonic() < deadline:
        time.sleep(0.01)
    for note in pid_file(run_dir, "").parent.glob("*.pid"):
        note.unlink(missing_ok=True)
    return ended


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
