"""The stack of one machine: Prefect server, web, responder, worker."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from irflow.config import Settings
from irflow.core.errors import ServiceMissing, UsageError
from irflow.supervisor.handle import Handle
from irflow.supervisor.memory import memory_table
from irflow.supervisor.service import Ready, Service
from irflow.supervisor.supervisor import lock_file, take_lock

__all__ = ["Stack", "memory_table", "services_for", "start_stack", "stop_stack"]

LOOPBACK = "127.0.0.1"
STOP_S = 40.0


class Stack:
    """A stack that runs, as a context manager: at its end everything stops, unless it was detached.

    web_url, prefect_ui: where people and machines find it.
    """

    def __init__(self, handle: Handle, web_url: str, prefect_ui: str) -> None:
        self._handle, self.web_url, self.prefect_ui = handle, web_url, prefect_ui

    def pids(self) -> dict[str, int]:
        """The process ids by service."""
        return self._handle.pids()

    def watch(self) -> None:
        """Wait until SIGINT (KeyboardInterrupt) or SIGTERM. Raises ServiceMissing when the stack cannot go on."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminated)
        self._handle.watch()

    def detach(self) -> None:
        """Leave it running when this process ends; stop_stack() ends it."""
        self._handle.detach()

    def stop(self) -> None:
        """End everything, wait for it."""
        self._handle.stop()

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def start_stack(settings: Settings, *, report: Callable[[str], None]) -> Stack:
    """Start the stack and wait until all of it is ready. report: called with one line per event.

    Raises ServiceMissing naming the part that did not come up, or the port that is taken and by whom.
    """
    handle = Handle(services_for(settings), settings.run, settings.logs, report)
    handle.start()
    return Stack(handle, web_url(settings), settings.prefect_api.removesuffix("/api"))


def stop_stack(settings: Settings) -> None:
    """End a stack that was left running. Nothing happens when there is none. Raises ServiceMissing if it stays."""
    deadline = time.monotonic() + STOP_S
    told = False
    if not lock_file(settings.run).exists():
        return
    while True:
        try:
            take_lock(settings.run).close()
            return
        except ServiceMissing:
            if time.monotonic() > deadline:
                raise
        if not told:
            os.kill(int(lock_file(settings.run).read_text()), signal.SIGTERM)  # the lock is held, so it is its pid
            told = True
        time.sleep(0.05)


def web_url(settings: Settings) -> str:
    """Where the web process is reached from this machine."""
    scheme = "https" if settings.web_tls_certificate else "http"
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(settings.web_host, settings.web_host)  # noqa: S104 - only compared
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.web_port}"


def services_for(settings: Settings) -> list[Service]:
    """The services of one machine. An existing Prefect (`prefect_url`) is not started."""
    if not settings.web_port:
        raise UsageError("web_port 0 has no address that others could be told", hint="Set a web_port in irflow.yaml")
    home = settings.home.absolute()
    irflow = (sys.executable, "-m", "irflow", "--home", str(home))
    env = {"PYTHONUNBUFFERED": "1", "IRFLOW_HOME": str(home), "DO_NOT_TRACK": "1"}
    return [
        *([] if settings.prefect_url else [_prefect(settings, env)]),
        Service(
            "web", (*irflow, "web"), Ready("url", f"{web_url(settings)}/health"), env,
            port=(settings.web_host, settings.web_port),
        ),
        Service("responder", (*irflow, "responder"), Ready("socket", str(settings.responder_socket.absolute())), env),
        # It waits for Prefect by itself, so it loads while Prefect starts.
        Service(
            "worker", (*irflow, "worker"), Ready("file", str((settings.run / "worker.ready").absolute())), env,
            ready_s=120.0, vital=False,
        ),
    ]  # fmt: skip


def _prefect(settings: Settings, env: dict[str, str]) -> Service:
    """Prefect's own server. Its port is noted for those who look for it, its password made if there is none."""
    settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    port = settings.prefect_port or _free_port()
    (settings.run / "prefect.url").write_text(f"http://{LOOPBACK}:{port}/api\n")
    auth = settings.prefect_auth_file
    if not auth.exists():
        auth.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(auth, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"irflow:{secrets.token_urlsafe(24)}\n")
    return Service(
        "prefect", (sys.executable, "-m", "irflow.flows.server", str(port)),
        Ready("url", f"http://{LOOPBACK}:{port}/api/health"), env,
        port=(LOOPBACK, port), ready_s=120.0, last=True, vital=False, ours=False,
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return int(sock.getsockname()[1])
