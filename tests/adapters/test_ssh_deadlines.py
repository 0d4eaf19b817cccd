"""Every SSH call ends by its deadline, its error says whether anything may have been run, and no thread is left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from irflow.adapters.ssh import SshShell, scan_host_keys
from irflow.core.errors import (
    ConnectionLost,
    DeadlineExceeded,
    HostKeyChanged,
    HostUnreachable,
    IrflowError,
    LoginFailed,
    OutcomeUnknown,
)
from irflow.core.inventory import Inventory
from tests.fakes.ssh_servers import OneKey, serving

TIMEOUT_S = 0.8
# The machine may be busy; a call that nothing bounds takes 30 s here.
SLACK_S = 1.5


@pytest.fixture
def shell() -> Iterator[SshShell]:
    shell = SshShell(OneKey(), Inventory(), scripts=lambda name: b"x" * (4 << 20) if name == "big.sh" else b"true\n")
    yield shell
    started = time.monotonic()
    shell.close()
    assert time.monotonic() - started < SLACK_S
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("irflow")] == []


def failure(shell: SshShell, mode: str, script: str = "true.sh", most: int = 8 << 20) -> tuple[IrflowError, float]:
    with serving(mode) as server:
        started = time.monotonic()
        with pytest.raises(IrflowError) as caught:
            shell.run(server.host, script, timeout_s=TIMEOUT_S, max_output=most)
        took = time.monotonic() - started
    assert took < TIMEOUT_S + SLACK_S
    assert caught.value.where == "nasty"
    return caught.value, took


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("no SYN answer", "no answer in time"),
        ("silent", "sent no SSH greeting"),
        ("banner without end", "sent no SSH greeting"),
        ("no key exchange", "did not finish its SSH greeting"),
        ("no login answer", "no answer to the login"),
        ("no channel", "no channel was opened: not in time"),
    ],
)
def test_a_server_that_stalls_before_the_script_was_sent_is_unreachable_at_the_deadline(
    shell: SshShell, mode: str, says: str
) -> None:
    error, took = failure(shell, mode)
    assert isinstance(error, HostUnreachable)
    assert not isinstance(error, OutcomeUnknown)
    assert says in str(error)
    assert took >= TIMEOUT_S * 0.9


@pytest.mark.parametrize(
    ("mode", "script"),
    [
        ("no exec answer", "true.sh"),
        ("drips output", "true.sh"),
        ("floods errors", "true.sh"),
        ("no exit status", "true.sh"),
        ("never reads", "big.sh"),
    ],
)
def test_a_server_that_stalls_after_the_script_was_sent_leaves_the_outcome_unknown_at_the_deadline(
    shell: SshShell, mode: str, script: str
) -> None:
    error, took = failure(shell, mode, script)
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, OutcomeUnknown)
    assert took >= TIMEOUT_S * 0.9


@pytest.mark.parametrize("mode", ["closes without status", "dies while running", "refuses to run"])
def test_an_end_without_exit_status_leaves_the_outcome_unknown_at_once(shell: SshShell, mode: str) -> None:
    error, took = failure(shell, mode)
    assert isinstance(error, ConnectionLost)
    assert took < TIMEOUT_S


def test_output_beyond_the_cap_ends_the_call_at_once(shell: SshShell) -> None:
    error, took = failure(shell, "floods output", most=100_000)
    assert isinstance(error, ConnectionLost)
    assert "more than 100000 bytes" in str(error)
    assert took < TIMEOUT_S


def test_a_server_that_hangs_up_is_tried_again_and_then_unreachable_before_the_deadline(shell: SshShell) -> None:
    with serving("hangs up") as server:
        with pytest.raises(HostUnreachable, match="hangs up before its SSH greeting"):
            shell.run(server.host, "true.sh", timeout_s=TIMEOUT_S)
        assert server.connections > 1


def test_a_refused_login_is_no_unreachable_host(shell: SshShell) -> None:
    error, took = failure(shell, "refuses the key")
    assert isinstance(error, LoginFailed)
    assert "authorized_keys" in error.hint
    assert took < TIMEOUT_S + SLACK_S


def test_another_host_key_stops_before_anything_is_sent(shell: SshShell) -> None:
    with serving("ok") as server, serving("ok") as other:
        changed = server.host.model_copy(update={"host_keys": other.host.host_keys})
        with pytest.raises(
            HostKeyChanged, match=r"showed ssh-ed25519 SHA256:\S+; on record: ssh-ed25519 SHA256:"
        ) as caught:
            shell.run(changed, "true.sh", timeout_s=5)
        assert "irflow hosts enrol nasty" in caught.value.hint
        assert server.sessions == 0


def test_a_slow_script_does_not_disturb_others_on_the_same_connection(shell: SshShell) -> None:
    with serving("drips output") as server, ThreadPoolExecutor(2) as threads:
        slow = threads.submit(lambda: shell.run(server.host, "true.sh", timeout_s=2))
        while server.sessions < 1:
            time.sleep(0.01)
        with pytest.raises(DeadlineExceeded):
            shell.run(server.host, "true.sh", timeout_s=0.5)
        with pytest.raises(
            DeadlineExceeded
        ):  # at its own deadline; ConnectionLost if it had been cut off with the first
            slow.result()
        assert server.connections == 1


def test_a_connection_that_died_unnoticed_is_replaced_without_a_word(shell: SshShell) -> None:
    with serving("ok") as server:
        assert shell.run(server.host, "true.sh", timeout_s=5).text == "ok"
        server.drop_connections()
        assert shell.run(server.host, "true.sh", timeout_s=5).text == "ok"
        assert (server.connections, server.sessions) == (2, 2)


def test_a_kept_connection_that_no_longer_answers_is_replaced_before_anything_is_sent(shell: SshShell) -> None:
    with serving("ok") as server:
        shell.run(server.host, "true.sh", timeout_s=5)
        server.mode = "no channel"  # for the connection that is open; the next one is accepted after the change back
        back = threading.Timer(1.0, lambda: setattr(server, "mode", "ok"))
        back.start()
        try:
            assert shell.run(server.host, "true.sh", timeout_s=10).text == "ok"
        finally:
            back.join()
        assert server.connections == 2


def test_an_unused_connection_is_closed_after_a_while(shell: SshShell) -> None:
    with serving("ok") as server:
        short = SshShell(OneKey(), Inventory(), idle_s=0.2, scripts=lambda name: b"true\n")
        try:
            short.run(server.host, "true.sh", timeout_s=5)
            end = time.monotonic() + 10
            while any(thread.name == "irflow ssh" for thread in threading.enumerate()):
                assert time.monotonic() < end, "the connection is still open"
                time.sleep(0.02)
            assert short.run(server.host, "true.sh", timeout_s=5).text == "ok"
            assert server.connections == 2
        finally:
            short.close()


def test_closing_ends_the_calls_under_way(shell: SshShell) -> None:
    with serving("drips output") as server, ThreadPoolExecutor(1) as threads:
        other = SshShell(OneKey(), Inventory(), scripts=lambda name: b"true\n")
        running = threads.submit(lambda: other.run(server.host, "true.sh", timeout_s=20))
        while server.sessions < 1:
            time.sleep(0.01)
        other.close()
        with pytest.raises(ConnectionLost):
            running.result(timeout=SLACK_S)
        with pytest.raises(HostUnreachable, match="closing"):
            other.run(server.host, "true.sh", timeout_s=5)


def test_calls_that_come_together_share_one_login(shell: SshShell) -> None:
    keys = OneKey()
    with serving("ok") as server, ThreadPoolExecutor(8) as threads:
        shared = SshShell(keys, Inventory(), scripts=lambda name: b"true\n")
        try:
            done = list(threads.map(lambda _: shared.run(server.host, "true.sh", timeout_s=10).status, range(16)))
        finally:
            shared.close()
        assert done == [0] * 16
        assert (server.connections, keys.asked) == (1, 1)


def test_a_key_scan_needs_no_login_and_ends_in_time() -> None:
    with serving("ok") as server:
        assert scan_host_keys(server.host) == server.host.host_keys
        assert server.sessions == 0
    with serving("silent") as server, pytest.raises(HostUnreachable):
        scan_host_keys(server.host, timeout_s=0.4)
