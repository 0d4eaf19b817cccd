"""One child process: what it is, whether it is ready, and how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irflow.core.errors import ServiceMissing

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
GRACE_S = 10.0
MOST_LOG = 4 << 20
"""A log larger than this is started anew at the next start; the old one is kept beside it."""


@dataclass(frozen=True)
class Service:
    """One process of the stack.

    ready: asked until it says yes. ready_s: how long that may take. after: names of services that must be ready first.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_s: float = 60.0
    after: tuple[str, ...] = ()


class Child:
    """A running service."""

    def __init__(self, service: Service, logs: Path, pid_dir: Path) -> None:
        self.service = service
        self.log = logs / f"{service.name}.log"
        self._pid_file = pid_dir / f"{service.name}.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.was_ready = False

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it in a process group of its own; the kernel ends it when we end, however that happens."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.log.exists() and self.log.stat().st_size > MOST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.service.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.service.env},
                preexec_fn=_die_with_parent(os.getpid()),
            )
        self.started_at = time.monotonic()
        self.was_ready = False
        self._pid_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pid_file.write_text(f"{self._process.pid} {start_ticks(self._process.pid)}\n")

    def status(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll() if self._process else None

    def check_ready(self) -> bool:
        """Whether it answers. Raises ServiceMissing when it has ended, with its last lines."""
        if self.was_ready:
            return True
        ended = self.status()
        if ended is not None:
            raise ServiceMissing(
                f"{self.service.name} ended with {ended} while starting:\n{self.tail()}", where=str(self.log)
            )
        self.was_ready = self.service.ready()
        return self.was_ready

    def tail(self, lines: int = 8) -> str:
        """The last lines it wrote."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])

    def ask_to_end(self) -> None:
        """SIGTERM to its whole group."""
        self._signal(signal.SIGTERM)

    def end(self, deadline: float) -> None:
        """Wait until the deadline (monotonic), then SIGKILL to its group."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.05, deadline - time.monotonic()))
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._pid_file.unlink(missing_ok=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


def _die_with_parent(parent: int) -> Callable[[], None]:
    def in_child() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


def start_ticks(pid: int) -> str:
    """When a process started, in clock ticks since boot: pid and this together are never reused. Empty when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def end_leftovers(pid_dir: Path) -> list[str]:
    """End what a supervisor that was killed left behind; only processes it had noted itself. Returns their names."""
    ended = []
    for path in sorted(pid_dir.glob("*.pid")):
        pid_text, _, ticks = path.read_text().strip().partition(" ")
        if pid_text.isdigit() and ticks and start_ticks(int(pid_text)) == ticks:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid_text), signal.SIGKILL)
            ended.append(path.stem)
        path.unlink(missing_ok=True)
    return ended
