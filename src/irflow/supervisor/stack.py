"""The stack of one machine: Prefect server, web, responder, worker."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from irflow.config import Settings
from irflow.core.errors import ServiceMissing
from irflow.supervisor.service import Service
from irflow.supervisor.supervisor import Report, Supervisor

READY_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Stack:
    """A running stack. web_url, prefect_ui: where people and machines find it."""

    supervisor: Supervisor
    web_url: str
    prefect_ui: str

    def pids(self) -> dict[str, int]:
        """The process ids by service."""
        return self.supervisor.pids()

    def watch(self) -> None:
        """Restart what dies until interrupted."""
        self.supervisor.watch()


@contextmanager
def start_stack(settings: Settings, *, report: Report) -> Iterator[Stack]:
    """Start the stack, keep it running in the background of the block, stop it at the end.

    Raises ServiceMissing naming the part that did not come up, or the port that is taken.
    """
    scheme = "https" if settings.web_tls_certificate else "http"
    web_url = f"{scheme}://{_reachable(settings.web_host)}:{settings.web_port}"
    supervisor = Supervisor(services_for(settings, web_url), settings.run, settings.logs, report)
    try:
        supervisor.start()
        supervisor.watch_in_background()
        yield Stack(supervisor, web_url, settings.prefect_api.removesuffix("/api"))
    finally:
        supervisor.stop()


def services_for(settings: Settings, web_url: str) -> list[Service]:
    """The services of one machine. An existing Prefect (`prefect_url`) is not started."""
    irflow = (sys.executable, "-m", "irflow", "--home", str(settings.home))
    services = []
    if not settings.prefect_url:
        _free(settings.prefect_port, "prefect_port")
        services.append(_prefect(settings))
    _free(settings.web_port, "web_port")
    return [
        *services,
        Service("web", (*irflow, "web"), lambda: _answers(f"{web_url}/health"), _quiet()),
        Service("responder", (*irflow, "responder"), settings.responder_socket.is_socket, _quiet()),
        # The worker waits for Prefect by itself, so its imports run while Prefect starts.
        Service("worker", (*irflow, "worker"), lambda: _worker_online(settings), _quiet(), ready_s=90.0),
    ]


def _prefect(settings: Settings) -> Service:
    """Prefect's own server: own home, own database, own auth string, bound to loopback, nothing sent anywhere."""
    auth = settings.prefect_auth_file
    if not auth.exists():
        auth.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(auth, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"irflow:{secrets.token_urlsafe(24)}")
    settings.prefect_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    url = f"http://127.0.0.1:{settings.prefect_port}"
    settings.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.run / "prefect.url").write_text(f"{url}/api\n")
    environment = {
        **_quiet(),
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_SERVER_API_AUTH_STRING": auth.read_text().strip(),
        "PREFECT_API_URL": "",
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    }
    port = str(settings.prefect_port)
    argv = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
    return Service("prefect", argv, lambda: _answers(f"{url}/api/health"), environment, ready_s=120.0)


def _quiet() -> dict[str, str]:
    return {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - what others bound, we only connect


def _free(port: int, setting: str) -> None:
    """Refuse a port in use, naming who has it where we may know."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            raise ServiceMissing(
                f"port {port} is in use{_holder(port)}", hint=f"Set another {setting} in irflow.yaml"
            ) from None


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return f" by {psutil.Process(one.pid).name()} (pid {one.pid})"
    return ""


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=READY_TIMEOUT_S, trust_env=False, verify=False).is_success  # noqa: S501 - own port
    except httpx.HTTPError:
        return False


def _worker_online(settings: Settings) -> bool:
    """Whether Prefect knows a living worker in our pool."""
    auth = settings.prefect_auth_file
    user, _, password = auth.read_text().strip().partition(":") if auth.exists() else ("", "", "")
    try:
        reply = httpx.post(
            f"{settings.prefect_api}/work_pools/irflow/workers/filter",
            json={},
            auth=(user, password),
            timeout=READY_TIMEOUT_S,
            trust_env=False,
        )
        return reply.is_success and any(one.get("status") == "ONLINE" for one in reply.json())
    except httpx.HTTPError:
        return False


def memory_table(pids: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """(service, pid, PSS in MB with all its children); PSS shares what processes share, so the sum is honest."""
    rows = []
    for name, pid in pids.items():
        try:
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.Error:
            continue
        rows.append((name, pid, round(sum(_pss(one.pid) for one in family), 1)))
    return rows


def _pss(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)
