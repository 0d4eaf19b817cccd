"""Nothing of a channel is sent after its close; a watchdog's cuts come at the deadline and never after the call."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import paramiko
import pytest

from irflow.adapters.ssh.transport import _Gate
from irflow.adapters.ssh.watchdog import GRACE_S, Watchdog

DATA, EOF, CLOSE, REQUEST = 94, 96, 97, 98


class Wire:
    """Records what a transport would send; broken: it is gone."""

    def __init__(self, broken: bool = False) -> None:
        self.sent: list[int] = []
        self.broken = broken

    def _send_user_message(self, message: paramiko.Message) -> None:
        if self.broken:
            raise EOFError
        self.sent.append(message.asbytes()[0])


def message(kind: int) -> paramiko.Message:
    return paramiko.Message(bytes([kind]) + bytes(8))


def gate(wire: Wire) -> _Gate:
    return _Gate(wire, paramiko.Channel(1))  # type: ignore[arg-type]


def test_data_that_come_late_are_not_sent_after_the_close() -> None:
    wire = Wire()
    one = gate(wire)
    for kind in (REQUEST, DATA, EOF, CLOSE, DATA, EOF, CLOSE):
        one._send_user_message(message(kind))
    assert wire.sent == [REQUEST, DATA, EOF, CLOSE]


def test_a_goodbye_to_a_connection_that_is_gone_is_no_error_but_lost_data_are() -> None:
    one = gate(Wire(broken=True))
    one._send_user_message(message(EOF))
    with pytest.raises(EOFError):
        one._send_user_message(message(DATA))
    one._send_user_message(message(CLOSE))


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    one = Watchdog()
    yield one
    one.stop()
    assert "irflow ssh watchdog" not in [thread.name for thread in threading.enumerate()]


def test_cuts_come_at_the_deadline_and_harder_ones_later(watchdog: Watchdog) -> None:
    first, second = threading.Event(), threading.Event()
    started = time.monotonic()
    with watchdog.watch(0.2) as leash, leash.cutting(first.set, second.set):
        assert first.wait(5)
        assert time.monotonic() - started >= 0.2
        assert leash.fired
        assert not second.is_set()
        assert second.wait(5)
        assert time.monotonic() - started >= 0.2 + GRACE_S * 0.9


def test_nothing_is_cut_once_the_call_is_over(watchdog: Watchdog) -> None:
    cut, later = threading.Event(), threading.Event()
    with watchdog.watch(0.1) as leash, leash.cutting(cut.set):
        pass
    with watchdog.watch(0.2) as other, other.cutting(later.set):
        assert later.wait(5)  # the watchdog has passed the first deadline by now
    assert not cut.is_set()
    assert not leash.fired


def test_deadlines_do_not_wait_for_longer_ones(watchdog: Watchdog) -> None:
    cut = threading.Event()
    started = time.monotonic()
    with watchdog.watch(60), watchdog.watch(0.1) as leash, leash.cutting(cut.set):
        assert cut.wait(5)
    assert time.monotonic() - started < 2
