"""Mail through a real SMTP server, and through ones that are dead, deaf or slow."""

from __future__ import annotations

import email
import socket
import threading
import time
from collections.abc import Iterator
from email.policy import default

import pytest
from aiosmtpd.controller import Controller

from irflow.adapters.notify import AppriseChannel
from irflow.core.errors import IrflowError
from irflow.core.model import Json
from irflow.core.secret import SecretRef, SecretValue

BOUND_S = 3.0


class Inbox:
    """An SMTP handler that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: object, session: object, envelope: Json) -> str:
        self.mails.append(envelope.content)
        return "250 OK"


class Urls:
    """Secrets that are URLs of a mail server on a port."""

    def __init__(self, port: int) -> None:
        self._port = port

    def resolve(self, ref: SecretRef) -> SecretValue:
        url = f"mailto://127.0.0.1:{self._port}/?from=irflow@example.com&to={ref.path}@example.com"
        return SecretValue(url.encode())


@pytest.fixture
def smtp() -> Iterator[tuple[Inbox, int]]:
    inbox = Inbox()
    server = Controller(inbox, hostname="127.0.0.1", port=_free_port())
    server.start()
    try:
        yield inbox, server.port
    finally:
        server.stop()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that accepts connections; what it says to them is the test's business."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def message(**more: Json) -> dict[str, Json]:
    return {
        "incident": "IR-2026-0001",
        "channels": ["email"],
        "title": "CRITICAL IR-2026-0001",
        "body": "web-1",
        **more,
    }


def test_a_mail_arrives_with_title_and_body_for_every_receiver(smtp: tuple[Inbox, int]) -> None:
    inbox, port = smtp
    AppriseChannel({"email": ("file:one", "file:two")}, Urls(port), timeout_s=20).send(message())
    mails = [email.message_from_bytes(one, policy=default) for one in inbox.mails]
    assert sorted(str(one["To"]) for one in mails) == ["one@example.com", "two@example.com"]
    assert {str(one["Subject"]) for one in mails} == {"CRITICAL IR-2026-0001"}
    assert all("web-1" in one.as_string() for one in mails)


def test_hostile_text_adds_no_header_no_receiver_and_no_markup(smtp: tuple[Inbox, int]) -> None:
    inbox, port = smtp
    title = "x\r\nBcc: evil@evil.example\r\n\r\n<script>alert(1)</script>"
    body = "<script>alert(1)</script> {{ 7*7 }}\n.\nRCPT TO:<evil@evil.example>\nfile:///etc/passwd"
    AppriseChannel({"email": ("file:one",)}, Urls(port), timeout_s=20).send(message(title=title, body=body))
    assert len(inbox.mails) == 1
    mail = email.message_from_bytes(inbox.mails[0], policy=default)
    assert mail["Bcc"] is None and str(mail["To"]) == "one@example.com"
    html = mail.get_body(("html",))
    assert html is None or "<script>" not in html.get_content()
    text = mail.get_body(("plain",))
    assert text is not None and "{{ 7*7 }}" in text.get_content()


def test_a_server_that_is_not_there_is_an_error_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(IrflowError, match=r"email \(file:one: the service did not take it\)"):
        AppriseChannel({"email": ("file:one",)}, Urls(_free_port()), timeout_s=20).send(message())
    assert time.monotonic() - start < 10


def test_a_server_that_accepts_and_never_answers_holds_nobody_longer_than_the_bound(listener: socket.socket) -> None:
    channel = AppriseChannel({"email": ("file:one",)}, Urls(listener.getsockname()[1]), timeout_s=BOUND_S)
    start = time.monotonic()
    with pytest.raises(IrflowError, match="email"):
        channel.send(message())
    assert time.monotonic() - start < BOUND_S + 2


def test_a_server_that_keeps_dribbling_holds_nobody_longer_than_the_bound(listener: socket.socket) -> None:
    """Each byte resets a socket's own timeout, so only the wall clock ends this."""
    stop = threading.Event()

    def dribble() -> None:
        connection, _ = listener.accept()
        with connection:
            while not stop.wait(0.2):
                try:
                    connection.sendall(b"2")
                except OSError:
                    return

    server = threading.Thread(target=dribble, daemon=True)
    server.start()
    channel = AppriseChannel({"email": ("file:one",)}, Urls(listener.getsockname()[1]), timeout_s=BOUND_S)
    start = time.monotonic()
    try:
        with pytest.raises(IrflowError, match=r"no answer within 3 s"):
            channel.send(message())
        assert time.monotonic() - start < BOUND_S + 2
    finally:
        stop.set()
        server.join(5)
