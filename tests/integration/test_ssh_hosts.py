"""The SSH adapter on real hosts: accounts, certificates, jump hosts, namespaces, pulled cables, many at once."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from irflow.adapters.prober import TcpProber
from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell, connect, fingerprint, scan_host_keys
from irflow.core.errors import (
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyChanged,
    HostUnreachable,
    LoginFailed,
    RemoteFailed,
    ServiceMissing,
)
from irflow.core.inventory import Host, Inventory
from irflow.lab import inventory
from irflow.lab.lab import Lab

SCRIPTS = {
    "env.sh": b'env | grep -Ev "^(_|PWD|SHLVL|OLDPWD)="; umask; id -u\n',
    "name.sh": b"hostname\n",
    "connection.sh": b'echo "$IRFLOW_CONNECTION"\n',
    "sleep.sh": b"sleep 60\n",
    "killed.sh": b"kill -9 $$\n",
    # More than one packet and more than the pipe to `sh` holds: most of it is under way when the script ends.
    "impatient.sh": b"exit 3\n" + b"# not read\n" * 30_000,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(8, tmp_path_factory.mktemp("lab") / "run") as running:
        yield running


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> tuple[Host, ...]:
    return inventory.entries(lab)


@pytest.fixture
def make(hosts: tuple[Host, ...]) -> Iterator[Callable[..., SshShell]]:
    """Shells that know the lab's hosts and those given; closed at the end, and no thread of theirs may be left."""
    made: list[SshShell] = []
    before = set(threading.enumerate())  # other tests of this process have theirs

    def new(*more: Host) -> SshShell:
        known = Inventory(hosts={host.name: host for host in (*hosts, *more)})
        made.append(SshShell(FileSecrets(), known, scripts=SCRIPTS.__getitem__))
        return made[-1]

    yield new
    for shell in made:
        shell.close()
    assert [one.name for one in set(threading.enumerate()) - before if one.name.startswith("irflow")] == []


def but(host: Host, **changes: object) -> Host:
    return host.model_copy(update=changes)


# ---------------------------------------------------------------- what a script finds


@pytest.mark.parametrize("account", ["root", "ir"])
def test_a_script_runs_as_root_in_an_environment_of_ours_alone(
    lab: Lab, make: Callable[..., SshShell], account: str
) -> None:
    host = inventory.entries(lab, user=account)[0]
    lines = make().run(host, "env.sh", timeout_s=10).text.splitlines()
    assert lines[-2:] == ["0077", "0"]
    found = dict(line.split("=", 1) for line in lines[:-2])
    client, _, server, port = found.pop("IRFLOW_CONNECTION").split()
    assert client in lab.management_addresses
    assert (server, port) == (host.address, str(host.port))
    # What sudo adds of its own accord would have to be asked for; `env -i` takes it away.
    assert found == {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": "/root"}


def test_an_account_that_sudo_refuses_is_a_failed_login(lab: Lab, make: Callable[..., SshShell]) -> None:
    alice = but(inventory.entries(lab)[0], user="alice", sudo=True)
    with pytest.raises(LoginFailed, match="sudo refused alice"):
        make().run(alice, "name.sh", timeout_s=10)


def test_a_script_that_is_killed_leaves_the_outcome_unknown(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    with pytest.raises(ConnectionLost, match="without an exit status"):
        make().run(hosts[0], "killed.sh", timeout_s=10)


def test_scripts_that_end_before_they_were_read_do_not_cost_the_connection(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    shell = make()
    before = shell.run(hosts[0], "connection.sh", timeout_s=10).text

    def impatient(_: int) -> int:
        return shell.run(hosts[0], "impatient.sh", timeout_s=20, check=False).status

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(impatient, range(60))) == [3] * 60
    assert shell.run(hosts[0], "connection.sh", timeout_s=10).text == before


# ---------------------------------------------------------------- keys and certificates


def signed(lab: Lab, folder: Path, kind: str, validity: str) -> tuple[str, str]:
    """A new key that no host knows, and a certificate for root over it."""
    key = folder / kind
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
    authority = ["ssh-keygen", "-q", "-s", str(lab.user_ca), "-I", "test", "-n", "root", "-V", validity]
    subprocess.run([*authority, f"{key}.pub"], check=True)
    return f"file:{key}", f"{key}-cert.pub"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_opens_what_its_key_alone_does_not(
    lab: Lab, hosts: tuple[Host, ...], make: Callable[..., SshShell], tmp_path: Path, kind: str
) -> None:
    key, certificate = signed(lab, tmp_path, kind, "-1m:+5m")
    with pytest.raises(LoginFailed, match="refused the login as root"):
        make().run(but(hosts[0], key=key), "name.sh", timeout_s=10)
    assert make().run(but(hosts[0], key=key, certificate=certificate), "name.sh", timeout_s=10).text == "web-1\n"


def test_a_certificate_that_has_run_out_is_named_with_its_end(
    lab: Lab, hosts: tuple[Host, ...], make: Callable[..., SshShell], tmp_path: Path
) -> None:
    key, certificate = signed(lab, tmp_path, "ed25519", "20200101000000Z:20200102000000Z")
    with pytest.raises(LoginFailed) as caught:
        make().run(but(hosts[0], key=key, certificate=certificate), "name.sh", timeout_s=10)
    assert f"{certificate} is not valid now, it ran until 2020-01-02 00:00 UTC" in caught.value.hint


def test_another_keys_certificate_is_a_mistake_in_the_inventory(
    lab: Lab, hosts: tuple[Host, ...], make: Callable[..., SshShell], tmp_path: Path
) -> None:
    _, certificate = signed(lab, tmp_path, "rsa", "+5m")
    with pytest.raises(ConfigurationError, match="not an SSH certificate for the key"):
        make().run(but(hosts[0], certificate=certificate), "name.sh", timeout_s=10)


# ---------------------------------------------------------------- host keys


def test_a_key_scan_finds_what_the_host_has(hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    assert scan_host_keys(hosts[0]) == hosts[0].host_keys
    behind = but(hosts[1], jump="web-1", netns=None)
    assert make().host_keys(behind) == hosts[1].host_keys


def test_a_host_key_of_another_type_is_another_key(
    hosts: tuple[Host, ...], make: Callable[..., SshShell], tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "old")], check=True)
    old = " ".join((tmp_path / "old.pub").read_text().split()[:2])
    with pytest.raises(HostKeyChanged) as caught:
        make().run(but(hosts[0], host_keys=(old,)), "name.sh", timeout_s=10)
    assert fingerprint(old) in str(caught.value)
    assert fingerprint(hosts[0].host_keys[0]) in str(caught.value)


def test_a_corrected_inventory_is_not_served_by_the_old_connection(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    shell = make()
    shell.run(hosts[0], "name.sh", timeout_s=10)
    with pytest.raises(HostKeyChanged):
        shell.run(but(hosts[0], host_keys=hosts[1].host_keys), "name.sh", timeout_s=10)


# ---------------------------------------------------------------- many at once


def test_thirty_two_scripts_at_once_all_come_back(hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    shell = make()

    def one(number: int) -> str:
        return shell.run(hosts[number % len(hosts)], "name.sh", timeout_s=30).text.strip()

    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(one, range(64))) == [hosts[number % len(hosts)].name for number in range(64)]


def test_more_scripts_than_a_host_allows_sessions_wait_their_turn(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    shell = make()
    with ThreadPoolExecutor(30) as threads:
        lines = list(threads.map(lambda _: shell.run(hosts[0], "connection.sh", timeout_s=30).text, range(30)))
    assert len(set(lines)) == 1


# ---------------------------------------------------------------- jump hosts and namespaces


def test_jump_hosts_carry_connections_also_in_a_chain(hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    second = but(hosts[1], jump="web-1", netns=None)
    third = but(hosts[2], jump="web-2", netns=None)
    shell = make(second, third)
    assert shell.run(third, "name.sh", timeout_s=20).text == "web-3\n"
    # The script sees the jump host as its client: that is whose way in it must keep open.
    assert shell.run(third, "connection.sh", timeout_s=20).text.split()[0] == hosts[1].address


def test_jump_hosts_in_a_circle_are_refused(hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    first, second = but(hosts[0], jump="web-2"), but(hosts[1], jump="web-1")
    shell = make(first, second)
    with pytest.raises(ConfigurationError, match=r"circle: web-1 - web-2 - web-1"):
        shell.run(first, "name.sh", timeout_s=10)
    with pytest.raises(ConfigurationError, match="not in the inventory"):
        shell.run(but(hosts[0], jump="nowhere"), "name.sh", timeout_s=10)


def test_what_the_jump_host_cannot_reach_is_unreachable(hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    with pytest.raises(HostUnreachable, match=r"port 9 through web-1"):
        make().run(but(hosts[1], jump="web-1", netns=None, port=9), "name.sh", timeout_s=10)


def test_ending_connections_through_a_jump_host_never_ends_the_jump_hosts_own(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    behind = [but(host, jump="web-1", netns=None) for host in hosts[1:]]
    shell = make(*behind)
    before = shell.run(hosts[0], "connection.sh", timeout_s=20).text

    def again(host: Host) -> str:  # each fresh connection ends the one before, while others are at work
        return shell.run(host, "name.sh", timeout_s=30, fresh=True).text.strip()

    with ThreadPoolExecutor(len(behind)) as threads:
        for _ in range(12):
            assert list(threads.map(again, behind)) == [host.name for host in behind]
    assert shell.run(hosts[0], "connection.sh", timeout_s=20).text == before


def test_calls_cut_at_their_deadline_never_disturb_others_on_the_same_connections(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    behind = [but(host, jump="web-1", netns=None) for host in hosts[1:]]
    shell = make(*behind)
    before = shell.run(hosts[0], "connection.sh", timeout_s=20).text

    def one(number: int) -> str:
        host = behind[number % len(behind)]
        if number % 3 == 0:  # 30 to 150 ms: some are cut while connecting, some in a channel's opening, some running
            with pytest.raises((DeadlineExceeded, HostUnreachable)):
                shell.run(host, "sleep.sh", timeout_s=0.03 + 0.01 * (number % 13))
            return host.name
        return shell.run(host, "name.sh", timeout_s=30, fresh=number % 5 == 0).text.strip()

    with ThreadPoolExecutor(14) as threads:
        assert list(threads.map(one, range(140))) == [behind[number % len(behind)].name for number in range(140)]
    assert shell.run(hosts[0], "connection.sh", timeout_s=20).text == before


def test_a_jump_hosts_connection_that_died_unnoticed_is_replaced(
    lab: Lab, hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    behind = but(hosts[1], jump="web-1", netns=None)
    shell = make(behind)
    shell.run(behind, "name.sh", timeout_s=20)
    lab.exec(lab.hosts[0], ["pkill", "-KILL", "-f", "sshd: root"])  # inside the host's own process namespace
    assert shell.run(behind, "name.sh", timeout_s=20).text == "web-2\n"


def test_version_6_works_as_version_4_does(lab: Lab, hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    host = but(hosts[0], address=lab.hosts[0].address6)
    client, _, server, _ = make().run(host, "connection.sh", timeout_s=10).text.split()
    assert ":" in client
    assert server == lab.hosts[0].address6


def test_a_namespace_that_is_gone_is_said(hosts: tuple[Host, ...], make: Callable[..., SshShell]) -> None:
    lost = but(hosts[0], netns="/run/netns/none-of-that-name")
    with pytest.raises(ServiceMissing, match="network namespace cannot be opened"):
        make().run(lost, "name.sh", timeout_s=10)
    with pytest.raises(ServiceMissing):
        TcpProber().tcp(lost, 22, timeout_s=1)


def test_the_prober_tells_open_refused_and_silent_apart(lab: Lab, hosts: tuple[Host, ...]) -> None:
    prober = TcpProber()
    for address in (lab.hosts[0].address, lab.hosts[0].address6):
        assert prober.tcp(but(hosts[0], address=address), 22, timeout_s=5) == "open"
        assert prober.tcp(but(hosts[0], address=address), 9, timeout_s=5) == "refused"
    assert prober.tcp(but(hosts[0], address="10.77.9.9"), 22, timeout_s=0.2) == "silent"


# ---------------------------------------------------------------- a pulled cable


def test_a_pulled_cable_ends_calls_by_their_deadline_or_sooner_and_others_go_on(
    lab: Lab, hosts: tuple[Host, ...], make: Callable[..., SshShell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "DEAD_AFTER_S", 3)
    shell = make()
    shell.connect(hosts[3], timeout_s=10)
    shell.connect(hosts[4], timeout_s=10)
    with ThreadPoolExecutor(3) as threads:
        started = time.monotonic()
        soon = threads.submit(shell.run, hosts[3], "sleep.sh", timeout_s=1.5)
        long = threads.submit(shell.run, hosts[3], "sleep.sh", timeout_s=50)
        while len(lab.exec(lab.hosts[3], ["pgrep", "-x", "sleep"]).stdout.split()) < 2:
            assert time.monotonic() - started < 20
        lab.unplug(lab.hosts[3])
        try:
            with pytest.raises(DeadlineExceeded):
                soon.result(timeout=20)
            assert time.monotonic() - started < 4
            assert shell.run(hosts[4], "name.sh", timeout_s=10).text == "web-5\n"
            with pytest.raises(ConnectionLost):  # found out by the kernel, long before the deadline
                long.result(timeout=20)
            with pytest.raises(HostUnreachable):
                shell.run(hosts[3], "name.sh", timeout_s=1)
        finally:
            lab.plug(lab.hosts[3])
    assert shell.run(hosts[3], "name.sh", timeout_s=20).text == "web-4\n"


def test_a_failing_script_through_a_fresh_connection_keeps_that_connection(
    hosts: tuple[Host, ...], make: Callable[..., SshShell]
) -> None:
    shell = make()
    with pytest.raises(RemoteFailed) as caught:
        shell.run(hosts[0], "impatient.sh", timeout_s=20, fresh=True)
    assert caught.value.status == 3
    first = shell.run(hosts[0], "connection.sh", timeout_s=10).text
    assert shell.run(hosts[0], "connection.sh", timeout_s=10).text == first
