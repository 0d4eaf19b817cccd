"""Channels: every one that works gets the message, nothing is sent twice, no secret is ever shown."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest

from irflow.adapters import notify
from irflow.adapters.notify import AppriseChannel, one_line
from irflow.core.errors import ConfigurationError, IrflowError
from irflow.core.model import Json
from irflow.core.secret import SecretRef, SecretValue

SECRET = "mailto://user:hunter2@mail.example"


class Secrets:
    """Gives every reference its own URL."""

    def resolve(self, ref: SecretRef) -> SecretValue:
        if ref.path == "missing":
            raise ConfigurationError("no such secret", where=str(ref))
        return SecretValue(f"{SECRET}/{ref.path}".encode())


def message(*channels: str) -> dict[str, Json]:
    return {"incident": "IR-2026-0001", "channels": list(channels), "title": "a title", "body": "a body"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was delivered; a URL that ends in `broken` takes nothing, one in `raises` raises with its own text."""
    urls: list[str] = []

    def deliver(url: str, title: str, body: str, timeout_s: float) -> bool:
        if url.endswith("raises"):
            raise RuntimeError(url)
        if url.endswith("broken"):
            return False
        urls.append(url.rpartition("/")[2])
        return True

    monkeypatch.setattr(notify, "_deliver", deliver)
    return urls


def test_every_receiver_of_every_channel_gets_it(sent: list[str]) -> None:
    channel = AppriseChannel({"email": ("file:a", "file:b"), "sms": ("file:c",), "chat": ("file:d",)}, Secrets())
    channel.send(message("email", "sms", "dashboard"))
    assert sorted(sent) == ["a", "b", "c"]


def test_a_channel_that_fails_is_named_the_others_are_not_held_up_and_no_secret_is_told(
    sent: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    channel = AppriseChannel({"email": ("file:broken",), "chat": ("file:raises",), "sms": ("file:c",)}, Secrets())
    with pytest.raises(IrflowError) as caught:
        channel.send(message("email", "chat", "sms"))
    assert "email (file:broken: the service did not take it)" in str(caught.value)
    assert "chat (file:raises: RuntimeError)" in str(caught.value)
    assert "sms" not in str(caught.value)
    assert "hunter2" not in str(caught.value) + caplog.text
    assert sent == ["c"]


def test_trying_again_sends_only_to_those_who_did_not_get_it(sent: list[str]) -> None:
    channels = {"email": ("file:a",), "sms": ("file:broken",)}
    channel = AppriseChannel(channels, Secrets())
    for _ in range(3):
        with pytest.raises(IrflowError):
            channel.send(message("email", "sms"))
    assert sent == ["a"]
    channel._channels["sms"] = ("file:mended",)
    channel.send(message("email", "sms"))
    assert sent == ["a", "mended"]
    channel.send(message("email", "sms"))  # delivered in full, so this is a new message that reads the same
    assert sorted(sent) == ["a", "a", "mended", "mended"]


def test_a_channel_that_is_not_set_up_is_an_error_after_the_others_have_it(sent: list[str]) -> None:
    channel = AppriseChannel({"email": ("file:a",), "empty": ()}, Secrets())
    with pytest.raises(ConfigurationError, match="no channel sms, empty is set up"):
        channel.send(message("email", "sms", "empty"))
    assert sent == ["a"]


def test_a_secret_that_is_missing_is_named_by_its_reference(sent: list[str]) -> None:
    with pytest.raises(IrflowError, match=r"email \(file:missing: no such secret\)"):
        AppriseChannel({"email": ("file:missing",)}, Secrets()).send(message("email"))


def test_log_and_dashboard_need_no_setting_and_can_stand_in_for_any_channel(
    sent: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    channel = AppriseChannel({"email": ("log",), "sms": ("dashboard",)}, Secrets())
    with caplog.at_level(logging.WARNING):
        channel.send(message("email", "sms", "dashboard"))
        channel.send(message("log"))
    assert [record.getMessage() for record in caplog.records] == ["IR-2026-0001 a title: a body"] * 2
    assert not sent


def test_a_service_that_never_answers_costs_the_bound_once_and_never_piles_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def deliver(url: str, title: str, body: str, timeout_s: float) -> bool:
        return release.wait(30)

    monkeypatch.setattr(notify, "_deliver", deliver)
    channel = AppriseChannel({"email": ("file:a",)}, Secrets(), timeout_s=0.2)
    with pytest.raises(IrflowError, match=r"email \(no answer within 0.2 s\)"):
        channel.send(message("email"))
    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(IrflowError, match="an earlier message still hangs"):
            channel.send({**message("email"), "title": "another"})
    assert threading.active_count() == before
    release.set()
    for thread in channel._threads.values():
        thread.join(5)
    channel.send(message("email"))


def test_what_no_url_is_says_so_without_repeating_it() -> None:
    class Wrong:
        def resolve(self, ref: SecretRef) -> SecretValue:
            return SecretValue(b"hunter2 is no URL")

    with pytest.raises(IrflowError, match="not an apprise URL") as caught:
        AppriseChannel({"email": ("file:a",)}, Wrong()).send(message("email"))
    assert "hunter2" not in str(caught.value)


def test_a_title_cannot_become_a_mail_header() -> None:
    assert one_line("a\r\nBcc: evil@evil.example\x00\u2028b") == "a Bcc: evil@evil.example b"


def test_apprise_is_not_imported_before_something_is_sent() -> None:
    code = "import sys, irflow.adapters.notify; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
