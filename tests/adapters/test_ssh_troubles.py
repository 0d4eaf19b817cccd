"""Hosts that stall do not hold up others, a shell that closes ends what is under way, and sudo is read right."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from irflow.adapters.ssh import SshShell
from irflow.adapters.ssh.watchdog import Watchdog
from irflow.core.errors import HostUnreachable, IrflowError, LoginFailed, RemoteFailed
from irflow.core.inventory import Inventory
from tests.fakes.ssh_servers import OneKey, serving

SLACK_S = 1.5


@pytest.fixture
def shell() -> Iterator[SshShell]:
    made = SshShell(OneKey(), Inventory(), parallel=2, scripts=lambda name: b"true\n")
    yield made
    made.close()


def test_silent_hosts_do_not_take_the_turn_of_those_that_answer(shell: SshShell) -> None:
    with ExitStack() as servers, ThreadPoolExecutor(4) as threads:
        silent = [servers.enter_context(serving("silent")) for _ in range(4)]
        good = servers.enter_context(serving("ok"))
        stuck = [threads.submit(shell.run, one.host, "true.sh", timeout_s=5) for one in silent]
        for one in silent:
            while not one.connections:
                time.sleep(0.01)
        started = time.monotonic()
        assert shell.run(good.host, "true.sh", timeout_s=4).text == "ok"
        assert time.monotonic() - started < 3
        for waiting in stuck:
            with pytest.raises(HostUnreachable, match="sent no SSH greeting"):
                waiting.result()


@pytest.mark.parametrize("mode", ["silent", "no key exchange", "no login answer", "no channel"])
def test_closing_ends_a_login_under_way(shell: SshShell, mode: str) -> None:
    with serving(mode) as server, ThreadPoolExecutor(1) as threads:
        running = threads.submit(shell.run, server.host, "true.sh", timeout_s=20)
        while not server.connections:
            time.sleep(0.01)
        time.sleep(0.3)  # so that most of the login is done; whatever is left must end all the same
        shell.close()
        started = time.monotonic()
        with pytest.raises(HostUnreachable, match="closing"):
            running.result(timeout=20)
        assert time.monotonic() - started < SLACK_S


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"sudo: a password is required\n", LoginFailed),
        (b"sudo: unable to resolve host a: Name or service not known\nsudo: a password is required\n", LoginFailed),
        (b"Sorry, user ir is not allowed to execute '/usr/bin/env' as root on a.\n", LoginFailed),
        (b"ir is not in the sudoers file.\n", LoginFailed),
        (b"sudo: sorry, you must have a tty to run sudo\n", LoginFailed),
        # Only a warning: the script was run, and whatever it did is done.
        (b"sudo: unable to resolve host a: Name or service not known\n", RemoteFailed),
        (b"sudo: unable to resolve host a: Name or service not known\nError: busy\n", RemoteFailed),
        (b"", RemoteFailed),
    ],
)
def test_what_sudo_refuses_is_told_from_what_the_script_came_to(
    shell: SshShell, said: bytes, error: type[IrflowError]
) -> None:
    with serving("ends with 1") as server:
        server.errors = said
        with pytest.raises(error):
            shell.run(server.host.model_copy(update={"sudo": True}), "true.sh", timeout_s=5)


def test_a_deadline_holds_in_a_child_process_too() -> None:
    watchdog = Watchdog()
    with watchdog.watch(0.01):
        pass  # the thread runs now
    child = os.fork()
    if child == 0:
        with watchdog.watch(0.2) as leash:
            end = time.monotonic() + 5
            while not leash.fired and time.monotonic() < end:
                time.sleep(0.01)
        os._exit(0 if leash.fired else 1)
    assert os.waitpid(child, 0)[1] == 0
    watchdog.stop()
