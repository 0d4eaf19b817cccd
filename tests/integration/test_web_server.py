"""The web application on a real server: what only a real connection shows."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from irflow.core.journal import Kind
from tests.intake.site import Site, alert_body, sign, site
from tests.services.web import serving


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as running:
        yield running


@pytest.fixture
def port(at: Site) -> Iterator[int]:
    with serving(at.app) as port:
        yield port


@pytest.mark.parametrize("headers", [{"content-length": str(64 << 20)}, {}], ids=["announced", "chunked"])
def test_a_body_over_the_limit_is_answered_and_not_kept_in_memory(headers: dict[str, str], at: Site, port: int) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(1024):
            yield b"x" * (64 << 10)

    # All that Python allocates, client and server: what the machine's allocator holds back depends on what ran before.
    tracemalloc.start()
    try:
        reply = httpx.post(
            f"http://127.0.0.1:{port}/webhooks/detection", content=parts(), headers=headers, timeout=30, trust_env=False
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.status_code == 413
    assert peak < 16 << 20


def test_a_sender_that_asks_first_is_told_before_it_sends(at: Site, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(
            b"POST /webhooks/detection HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\nexpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_half_sent_alert_changes_nothing(at: Site, port: int) -> None:
    body = alert_body()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        head = "".join(
            f"{key}: {value}\r\n" for key, value in sign(at.keys.values["detection"], body, at.clock.at).items()
        )
        text = f"POST /webhooks/detection HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(body)}\r\n\r\n"
        sock.sendall(text.encode() + body[:-1])
    assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    assert not at.open()


def test_many_senders_at_once_lose_nothing_and_share_commits(at: Site, port: int) -> None:
    before = at.store.commits
    bodies = [alert_body(fingerprint=str(n), hosts=[f"web-{n % 3 + 1}"]) for n in range(200)]

    def send(numbers: range) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        statuses = []
        for n in numbers:
            headers = sign(at.keys.values["detection"], bodies[n], at.clock.at)
            connection.request("POST", "/webhooks/detection", bodies[n], headers)
            reply = connection.getresponse()
            assert len(json.loads(reply.read())["alerts"]) == 1
            statuses.append(reply.status)
        connection.close()
        return statuses

    with ThreadPoolExecutor(16) as pool:
        statuses = [one for part in pool.map(lambda n: send(range(n, 200, 16)), range(16)) for one in part]
    assert statuses == [202] * 200
    kept = [event.data["fingerprint"] for one in at.open() for event in at.events(one.id, Kind.ALERT_RECEIVED)]
    assert sorted(kept) == sorted(str(n) for n in range(200))
    assert len(at.open()) == 3
    assert at.store.commits - before < 200


def test_when_too_many_wait_the_next_is_told_to_come_back(at: Site, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irflow.web.webhooks.MOST_WAITING", 2)
    go = threading.Event()
    inside = threading.Semaphore(0)
    transact = at.store.transact

    def slow(work: object) -> object:
        inside.release()
        assert go.wait(20)
        return transact(work)  # type: ignore[arg-type]

    monkeypatch.setattr(at.store, "transact", slow)

    def send(n: int) -> httpx.Response:
        body = alert_body(fingerprint=str(n))
        headers = sign(at.keys.values["detection"], body, at.clock.at)
        url = f"http://127.0.0.1:{port}/webhooks/detection"
        return httpx.post(url, content=body, headers=headers, timeout=30, trust_env=False)

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(send, n) for n in range(2)]
        for _ in waiting:
            assert inside.acquire(timeout=20)
        refused = send(2)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200, "not dead, only busy"
        go.set()
        assert [one.result().status_code for one in waiting] == [202, 202]
