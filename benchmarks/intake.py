"""Intake: how many alerts per second a real web process accepts and commits, with none lost."""

from __future__ import annotations

import argparse
import http.client
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from standardwebhooks import Webhook

LIMIT = 300.0
"""Alerts per second that issue and design ask for on two cores."""
LOADS = {
    "storm": "each about one of 100 hosts, so that most join an incident",
    "repeats": "one alert again and again",
    "new": "each opens an incident",
}
_SERVER = """
import sys
from pathlib import Path
import uvicorn
from irflow.adapters.journal_sql import open_store
from irflow.core.inventory import Host, Inventory
from irflow.core.playbook import Playbook
from irflow.core.ports import SystemClock
from irflow.core.secret import SecretValue
from irflow.intake.source import Source
from irflow.web.app import create_app

class Keys:
    def resolve(self, ref):
        return SecretValue(Path(ref.path).read_bytes())

home, port = Path(sys.argv[1]), int(sys.argv[2])
hosts = {f"h{n}": Host(name=f"h{n}", address=f"10.0.{n // 250}.{n % 250 + 1}", key="file:/none") for n in range(100)}
store = open_store(f"sqlite:///{home / 'journal.db'}", clock=SystemClock())
app = create_app(
    sources=[Source(name="bench", auth="hmac", key=f"file:{home / 'key'}")], store=store,
    inventory=Inventory(hosts=hosts), playbooks=(Playbook.model_validate({"playbook": "p", "title": "p",
    "match": {"types": ["system_compromise"]}, "phases": {}}),), secrets=Keys(), clock=SystemClock(), wake=lambda: None)
uvicorn.run(app, port=port, log_level="warning", access_log=False)
store.close()
"""


def bench_intake(*, alerts: int = 3000, clients: int = 16) -> list[dict[str, Any]]:
    """The LOADS, as signed requests with one alert each, over kept connections on loopback.

    alerts: per load. clients: senders at once. `passed` also needs every request answered with 202 and every alert in
    the journal.
    """
    rows: list[dict[str, Any]] = []
    for name in LOADS:
        with tempfile.TemporaryDirectory(prefix="irflow-bench-") as folder, _web(Path(folder)) as (port, key):
            rows += _measure(name, Path(folder), port, key, alerts, clients)
    return rows


def _measure(name: str, home: Path, port: int, key: str, alerts: int, clients: int) -> list[dict[str, Any]]:
    requests = [_request(key, _alert(name, number)) for number in range(alerts)]
    _send(port, requests[:1])  # a connection, the imports and the schema are warm
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        waits = [one for part in pool.map(lambda n: _send(port, requests[n::clients]), range(clients)) for one in part]
    seconds = time.perf_counter() - start
    accepted = sum(1 for status, _ in waits if status == 202)
    kept = _kept(home)
    rate = alerts / seconds
    whole = accepted == kept == alerts
    middle = median(wait for _, wait in waits)
    return [
        _row(
            f"intake: alerts accepted and committed, {LOADS[name]}", rate, "1/s", alerts, LIMIT, whole and rate >= LIMIT
        ),
        _row(f"intake: alerts lost, {LOADS[name]}", alerts - min(accepted, kept), "1", alerts, 0, whole),
        _row(f"intake: request to answer, {clients} senders, {LOADS[name]}", middle, "s", alerts, None, True),
    ]


def _row(name: str, value: float, unit: str, n: int, limit: float | None, passed: bool) -> dict[str, Any]:
    return {"name": name, "value": round(value, 4), "unit": unit, "limit": limit, "n": n, "passed": passed}


def _alert(name: str, number: int) -> dict[str, Any]:
    alert: dict[str, Any] = {"type": "system_compromise", "severity": "critical", "title": "bench"}
    if name == "storm":
        return {**alert, "hosts": [f"h{number % 100}"], "fingerprint": str(number)}
    if name == "repeats":
        return {**alert, "hosts": ["h1"], "fingerprint": "one", "summary": str(number)}
    return {**alert, "hosts": [f"unknown-{number}"], "fingerprint": str(number)}


def _request(key: str, alert: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    body, id_, now = json.dumps(alert), secrets.token_hex(12), datetime.now(UTC)
    return body.encode(), {
        "webhook-id": id_, "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(key).sign(id_, now, body), "content-type": "application/json",
    }  # fmt: skip


def _send(port: int, requests: list[tuple[bytes, dict[str, str]]]) -> list[tuple[int, float]]:
    """(status, seconds) of each request, one after the other over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for body, headers in requests:
        start = time.perf_counter()
        connection.request("POST", "/webhooks/bench", body, headers)
        reply = connection.getresponse()
        reply.read()
        found.append((reply.status, time.perf_counter() - start))
    connection.close()
    return found


def _kept(home: Path) -> int:
    """How many alerts the journal's chains hold."""
    from irflow.adapters.journal_sql import open_store
    from irflow.core.journal import Kind
    from irflow.core.ports import SystemClock

    store = open_store(f"sqlite:///{home / 'journal.db'}", clock=SystemClock())
    try:
        return sum(
            event.kind == Kind.ALERT_RECEIVED
            for incident, _ in store.incidents(limit=1_000_000)
            for event in store.events(incident.id)
        )
    finally:
        store.close()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the process answers, at most 30 s."""
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            assert connection.getresponse().status == 200
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError("the web process did not start")


@contextmanager
def _web(home: Path) -> Iterator[tuple[int, str]]:
    """A web process of its own on a free port: (port, signing key)."""
    import base64

    key = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    (home / "key").write_text(key)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(home), str(port)])
    try:
        _wait(port, process)
        yield port, key
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=16)
    given = parser.parse_args()
    for row in bench_intake(alerts=given.alerts, clients=given.clients):
        print(json.dumps(row))
