"""Connections to real hosts that died unnoticed are replaced, and trouble on one host stays there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from irflow.adapters.ssh import SshShell
from irflow.core.errors import DeadlineExceeded, HostUnreachable, IrflowError
from irflow.core.inventory import Host
from irflow.core.ports import Completed
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.integration.ssh_hosts import host_of, shell_for

TIMEOUT_S = 20.0
SLACK_S = 1.5
"""For a busy machine; what nothing bounds takes a minute here."""

MANY = 32


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(MANY, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture
def make(lab: Lab) -> Iterator[Callable[..., tuple[SshShell, list[Host]]]]:
    """Makes a shell and the hosts it knows; jump: index of a host -> name of the one in front of it."""
    shells: list[SshShell] = []

    def made(count: int, jump: dict[int, str] | None = None) -> tuple[SshShell, list[Host]]:
        hosts = [host_of(lab, index, jump=(jump or {}).get(index)) for index in range(count)]
        shells.append(shell_for(hosts))
        return shells[-1], hosts

    yield made
    for shell in shells:
        shell.close()


Make = Callable[..., tuple[SshShell, list[Host]]]


def who(shell: SshShell, host: Host, *, fresh: bool = False, timeout_s: float = TIMEOUT_S) -> tuple[str, str, int]:
    """The host's name, and the address and port it sees this connection come from."""
    name, _, connection = shell.run(host, "who.sh", timeout_s=timeout_s, fresh=fresh).text.splitlines()
    return name, connection.split()[0], int(connection.split()[1])


def outcome(shell: SshShell, host: Host, script: str, timeout_s: float) -> tuple[object, float]:
    """What a run came to (its error or result), and how long it took."""
    started = time.monotonic()
    try:
        result: object = shell.run(host, script, timeout_s=timeout_s)
    except IrflowError as error:
        result = error
    return result, time.monotonic() - started


def wait_until_it_runs(lab: Lab, host: LabHost, waiting: Future[tuple[object, float]]) -> None:
    """Wait for wait.sh to have started on a host."""
    end = time.monotonic() + TIMEOUT_S
    while lab.exec(host, ["rm", "/run/waits"]).returncode != 0:
        assert time.monotonic() < end and not waiting.done()
        time.sleep(0.02)


# ---------------------------------------------------------------- one connection, kept


def test_a_connection_that_the_host_ended_while_idle_is_replaced_without_a_word(lab: Lab, make: Make) -> None:
    shell, (host,) = make(1)
    first = who(shell, host)
    sshd = shell.run(host, "sshd.sh", timeout_s=TIMEOUT_S).text.strip()
    assert lab.exec(lab.hosts[0], ["kill", "-9", sshd]).returncode == 0
    assert who(shell, host) != first


def test_a_connection_that_a_firewall_forgot_is_replaced_before_anything_is_sent(lab: Lab, make: Make) -> None:
    shell, (host,) = make(1)
    _, _, port = who(shell, host)
    rules = f"table inet t {{\nchain c {{\ntype filter hook input priority 0\ntcp sport {port} drop\n}}\n}}\n"
    try:
        assert lab.exec(lab.hosts[0], ["nft", "-f", "-"], stdin=rules.encode()).returncode == 0
        started = time.monotonic()
        assert who(shell, host)[2] != port
        assert time.monotonic() - started < 6
    finally:
        lab.exec(lab.hosts[0], ["nft", "flush", "ruleset"])


# ---------------------------------------------------------------- through jump hosts


def test_eleven_hosts_through_one_jump_host_all_answer_in_every_round(make: Make) -> None:
    shell, hosts = make(12, dict.fromkeys(range(1, 12), "web-1"))
    jump = who(shell, hosts[0])
    with ThreadPoolExecutor(11) as threads:
        for _ in range(6):  # each closes the connections of the round before, on the jump connection they share
            names = list(threads.map(lambda host: who(shell, host, fresh=True)[0], hosts[1:]))
            assert names == [host.name for host in hosts[1:]]
    assert who(shell, hosts[0]) == jump


def test_a_jump_connection_that_died_is_replaced_for_all_behind_it(lab: Lab, make: Make) -> None:
    shell, hosts = make(4, dict.fromkeys(range(1, 4), "web-1"))
    with ThreadPoolExecutor(3) as threads:
        before = list(threads.map(lambda host: who(shell, host), hosts[1:]))
        sshd = shell.run(hosts[0], "sshd.sh", timeout_s=TIMEOUT_S).text.strip()
        assert lab.exec(lab.hosts[0], ["kill", "-9", sshd]).returncode == 0
        after = list(threads.map(lambda host: who(shell, host), hosts[1:]))
    assert [one[0] for one in after] == ["web-2", "web-3", "web-4"]
    assert set(before).isdisjoint(after)


# ---------------------------------------------------------------- many, and trouble on one


def test_thirty_two_hosts_work_at_the_same_time(make: Make) -> None:
    shell, hosts = make(MANY)
    with ThreadPoolExecutor(MANY) as threads:
        list(threads.map(lambda host: shell.connect(host, timeout_s=TIMEOUT_S), hosts))
        started = time.monotonic()
        done = list(threads.map(lambda host: shell.run(host, "nap.sh", timeout_s=TIMEOUT_S).text.strip(), hosts))
        took = time.monotonic() - started
    assert done == [host.name for host in hosts]
    assert took < 0.3 * MANY / 2  # each naps for 0.3 s


def test_a_cable_pulled_while_a_script_runs_leaves_that_outcome_unknown_and_the_others_alone(
    lab: Lab, make: Make
) -> None:
    shell, hosts = make(4, {2: "web-2", 3: "web-2"})
    shell.connect(hosts[3], timeout_s=TIMEOUT_S)
    with ThreadPoolExecutor(4) as threads:
        try:
            waiting = [threads.submit(outcome, shell, host, "wait.sh", 3.0) for host in (hosts[0], hosts[2])]
            for lab_host, one in zip((lab.hosts[0], lab.hosts[2]), waiting, strict=True):
                wait_until_it_runs(lab, lab_host, one)
                lab.unplug(lab_host)
            assert who(shell, hosts[1])[0] == "web-2"
            assert who(shell, hosts[3])[0] == "web-4"  # through the same jump host as the one that went dark
            for one in waiting:
                error, took = one.result()
                assert isinstance(error, DeadlineExceeded)
                assert took < 3 + SLACK_S
            error, took = outcome(shell, hosts[0], "who.sh", 1.0)
            assert isinstance(error, HostUnreachable)
            assert took < 1 + SLACK_S
        finally:
            lab.plug(lab.hosts[0])
            lab.plug(lab.hosts[2])
    assert [who(shell, host)[0] for host in hosts] == [host.name for host in hosts]


def test_a_host_that_is_dark_behind_a_jump_host_costs_the_others_behind_it_nothing(lab: Lab, make: Make) -> None:
    shell, hosts = make(3, {1: "web-1", 2: "web-1"})
    jump, other = who(shell, hosts[0]), who(shell, hosts[2])
    lab.unplug(lab.hosts[1])
    try:
        with ThreadPoolExecutor(3) as threads:
            for timeout_s in (1.0, 5.0):  # shorter, and longer, than a kept connection may take to open a channel
                running = threads.submit(outcome, shell, hosts[2], "long_nap.sh", TIMEOUT_S)
                tries = [threads.submit(outcome, shell, hosts[1], "who.sh", timeout_s) for _ in range(2)]
                for one in tries:
                    error, took = one.result()
                    assert isinstance(error, HostUnreachable)
                    assert "through web-1" in str(error) or "still under way" in str(error)
                    assert took < timeout_s + SLACK_S
                result, _ = running.result()
                assert isinstance(result, Completed), result
                assert (who(shell, hosts[0]), who(shell, hosts[2])) == (jump, other)
    finally:
        lab.plug(lab.hosts[1])
    assert who(shell, hosts[1])[0] == "web-2"
    assert who(shell, hosts[0]) == jump
