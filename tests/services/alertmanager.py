"""Debian's Alertmanager as a real sender: own folder, loopback only, no cluster, gone afterwards."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

START_S = 20.0


@dataclass(frozen=True)
class Alertmanager:
    """One running Alertmanager."""

    url: str

    def fire(self, *alerts: dict[str, str], annotations: dict[str, str] | None = None) -> None:
        """Post alerts, each given by its labels, through the v2 API as Prometheus does."""
        self._post([{"labels": labels, "annotations": annotations or {}} for labels in alerts])

    def resolve(self, *alerts: dict[str, str]) -> None:
        """Say that they ended now."""
        now = datetime.now(UTC).isoformat()
        self._post([{"labels": labels, "endsAt": now} for labels in alerts])

    def _post(self, alerts: list[dict[str, Any]]) -> None:
        httpx.post(f"{self.url}/api/v2/alerts", json=alerts, timeout=10, trust_env=False).raise_for_status()


@contextmanager
def alertmanager(folder: Path, webhook: str, token_file: Path) -> Iterator[Alertmanager]:
    """Run one that sends everything to `webhook`, at once and again every 2 s while something changes."""
    program = shutil.which("prometheus-alertmanager")
    assert program, "Debian's prometheus-alertmanager is missing: make setup installs it"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "alertmanager.yml"
    config.write_text(
        "global: {resolve_timeout: 1h}\n"
        "route: {receiver: irflow, group_by: [alertname], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}\n"
        "receivers:\n"
        "  - name: irflow\n"
        "    webhook_configs:\n"
        f"      - url: {webhook}\n"
        "        send_resolved: true\n"
        "        http_config:\n"
        f"          authorization: {{type: Bearer, credentials_file: {token_file}}}\n"
    )
    log = (folder / "alertmanager.log").open("wb")
    process = subprocess.Popen(
        [program, f"--config.file={config}", f"--storage.path={folder / 'data'}", "--cluster.listen-address=",
         f"--web.listen-address=127.0.0.1:{port}"],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, folder / "alertmanager.log")
        yield Alertmanager(url)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"Alertmanager did not start: {log.read_text()[-2000:]}")
