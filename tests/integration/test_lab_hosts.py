"""Lab hosts are real: own root, users, network, firewall and sshd, and nothing of the machine shows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.core.errors import DeadlineExceeded, UsageError
from irflow.lab import inventory, vantage
from irflow.lab.lab import Lab, down
from irflow.lab.model import LabError, LabHost, Level
from tests.integration.lab_leftovers import leftovers
from tests.services.on_host import on


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


def login(lab: Lab, host: LabHost, who: str, user: str, remote: str) -> tuple[int, str]:
    done = lab.run_from(who, [*vantage.ssh_argv(lab, host, who, user=user), remote])
    return done.returncode, done.stdout.decode().strip()


def test_the_responder_logs_in_as_root_with_the_hosts_own_key_checked(lab: Lab) -> None:
    assert login(lab, lab.hosts[0], "responder", "root", "hostname; id -u") == (0, "web-1\n0")
    assert lab.hosts[0].host_key.startswith("ssh-ed25519 AAAA")
    assert lab.hosts[0].host_key != lab.hosts[1].host_key


def test_the_account_ir_becomes_root_by_sudo_only(lab: Lab) -> None:
    assert login(lab, lab.hosts[0], "responder", "ir", "id -u; sudo -n id -u") == (0, "1100\n0")


def test_the_attackers_key_opens_mallory_and_nothing_else(lab: Lab) -> None:
    assert login(lab, lab.hosts[0], "attacker", "mallory", "id -un") == (0, "mallory")
    assert login(lab, lab.hosts[0], "attacker", "root", "id -un")[0] == 255
    status, _ = login(lab, lab.hosts[0], "attacker", "mallory", "sudo -n true")
    assert status != 0


def test_a_host_has_the_tools_of_a_server(lab: Lab) -> None:
    on(lab, lab.hosts[0], "for p in nft iptables conntrack sshd ss ps cron sudo useradd; do command -v $p; done")
    on(lab, lab.hosts[0], "nft list ruleset; iptables -S; ip6tables -S; conntrack -L; test -s /etc/crontab")


def test_a_host_shows_nothing_of_the_machine(lab: Lab) -> None:
    seen = set(on(lab, lab.hosts[0], "ls -A /").split())
    links = {"bin", "lib", "lib32", "lib64", "libx32", "sbin"}
    assert seen - links == set("boot dev etc home media mnt oldroot opt proc root run srv sys tmp usr var".split())
    assert on(lab, lab.hosts[0], "ls /home").split() == ["alice", "bob", "deploy", "ir", "mallory"]
    assert on(lab, lab.hosts[0], "find /mnt /opt /srv /tmp /usr/local -type f; ls -A /etc/cron.d").strip() == ""
    assert str(lab.layout.run_dir) not in on(lab, lab.hosts[0], "cut -d' ' -f2 /proc/mounts; ls /root")
    assert Path("/etc/machine-id").read_text().strip() not in on(lab, lab.hosts[0], "cat /etc/machine-id")


def test_a_host_sees_only_its_own_processes_and_network(lab: Lab) -> None:
    assert len(on(lab, lab.hosts[0], "ps -e -o pid=").split()) < 20
    assert on(lab, lab.hosts[0], "ls /sys/class/net").split() == ["eth0", "lo"]
    on(lab, lab.hosts[0], "! echo 1 >/proc/sys/kernel/sysrq")


def test_nothing_changes_by_looking_and_every_change_shows(lab: Lab) -> None:
    host = lab.hosts[1]
    login(lab, host, "responder", "root", "nft list ruleset; cat /etc/shadow; find /etc >/dev/null")
    login(lab, host, "responder", "ir", "sudo -n ps -e")
    assert lab.diff(host) == []
    on(lab, host, "echo x >/etc/new; echo x >>/usr/bin/ls; rm /usr/sbin/cron; mkdir /srv/d; chmod 700 /home; : >/run/x")
    changed = ["/etc/new", "/home", "/run/x", "/srv/d", "/usr/bin/ls", "/usr/sbin/cron"]
    assert lab.diff(host) == changed
    assert lab.diff(host, ignore=("/etc", "/usr", "/run", "/var")) == ["/home", "/srv/d"]
    assert Path("/usr/sbin/cron").exists(), "the machine itself must stay untouched"


def test_all_three_parties_reach_a_host_over_v4_and_v6(lab: Lab) -> None:
    for who in ("responder", "attacker"):
        view = vantage.look(lab, lab.hosts[0], who)
        assert (view.v4, view.v6) == ("open", "open")
        assert view.greeting is not None and view.greeting.startswith("SSH-2.0-OpenSSH")
    assert vantage.tcp(lab.netns("attacker"), lab.hosts[0].address, 4711) == "refused"
    assert vantage.tcp(lab.netns("attacker"), "10.77.9.9", 22, timeout_s=0.2) == "silent"


def test_a_pulled_cable_silences_a_host_until_it_is_put_back(lab: Lab) -> None:
    host = lab.hosts[0]
    lab.unplug(host)
    try:
        assert vantage.look(lab, host, "responder", timeout_s=0.3).dark
        assert vantage.look(lab, lab.hosts[1], "responder").v4 == "open"
        assert "NO-CARRIER" in on(lab, host, "ip link show eth0")
    finally:
        lab.plug(host)
    deadline = time.monotonic() + 10
    while vantage.tcp(lab.netns("responder"), host.address6, 22) != "open":
        assert time.monotonic() < deadline, "v6 did not come back"
    assert vantage.look(lab, host, "responder").v4 == "open"


def test_a_command_that_does_not_end_is_cut_with_everything_it_started(lab: Lab) -> None:
    with pytest.raises(DeadlineExceeded):
        lab.exec(lab.hosts[0], ["sh", "-c", "sleep 4242 & sleep 4242"], timeout_s=0.5)
    assert "sleep 4242" not in on(lab, lab.hosts[0], "ps -e -o args=")


def test_a_callers_strict_umask_is_not_the_hosts(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with Lab.up(1, tmp_path / "run", level=Level.ROOT) as strict:
            assert os.umask(0o077) == 0o077
            assert login(strict, strict.hosts[0], "attacker", "mallory", "id -un; umask") == (0, "mallory\n0022")
            assert on(strict, strict.hosts[0], "umask") == "0022\n"
            assert strict.layout.keys.stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


def test_a_running_lab_is_found_again_and_not_made_twice(lab: Lab) -> None:
    again = Lab.load(lab.layout.run_dir)
    assert again.hosts == lab.hosts
    assert on(again, again.host("web-2"), "hostname").strip() == "web-2"
    with pytest.raises(LabError, match="runs here already"):
        Lab.up(1, lab.layout.run_dir)
    with pytest.raises(UsageError, match="web-1, web-2"):
        lab.host("--help")


def test_the_lab_is_an_inventory_of_its_hosts(lab: Lab) -> None:
    host, plain = inventory.entries(lab)[0], inventory.entries(lab, user="ir")[0]
    assert (host.name, host.address, host.user, host.sudo) == ("web-1", "10.77.1.1", "root", False)
    assert host.host_keys == (lab.hosts[0].host_key,)
    assert host.netns == str(lab.netns("responder"))
    assert (plain.user, plain.sudo) == ("ir", True)
    assert Path(host.key.removeprefix("file:")).stat().st_mode & 0o777 == 0o600
    shown = inventory.status(lab.layout.run_dir)
    assert (shown["level"], shown["ready"]) == ("root", True)


def test_two_labs_with_the_same_addresses_run_side_by_side(lab: Lab, tmp_path: Path) -> None:
    with Lab.up(1, tmp_path / "other", level=Level.ROOT) as other:
        assert other.hosts[0].address == lab.hosts[0].address
        on(other, other.hosts[0], "hostname elsewhere")
        assert login(other, other.hosts[0], "responder", "root", "hostname") == (0, "elsewhere")
        assert login(lab, lab.hosts[0], "responder", "root", "hostname") == (0, "web-1")
    assert vantage.look(lab, lab.hosts[0]).v4 == "open"
    assert not (tmp_path / "other").exists()


def test_fifty_hosts_are_up_in_seconds_and_gone_without_a_trace(tmp_path: Path) -> None:
    run_dir = tmp_path / "fifty"
    began = time.monotonic()
    lab = Lab.up(50, run_dir, level=Level.ROOT)
    try:
        took = time.monotonic() - began
        assert len({host.host_key for host in lab.hosts}) == 50
        assert login(lab, lab.hosts[49], "responder", "root", "hostname") == (0, "web-50")
    finally:
        lab.down()
    assert leftovers(run_dir, lab.layout.id) == []
    assert took < 60, "a bound against hanging, not a measurement"


def test_a_lab_whose_host_died_is_stale_and_its_place_can_be_used_again(tmp_path: Path) -> None:
    lab = Lab.up(2, tmp_path / "run", level=Level.ROOT)
    try:
        os.kill(lab.hosts[0].pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                Lab.load(tmp_path / "run")
            except LabError as error:
                assert "web-1" in str(error)
                break
        else:
            pytest.fail("the dead host was not noticed")
        fresh = Lab.up(1, tmp_path / "run", level=Level.ROOT)
        assert login(fresh, fresh.hosts[0], "responder", "root", "hostname") == (0, "web-1")
    finally:
        down(tmp_path / "run")
    assert leftovers(tmp_path / "run", lab.layout.id) == []


@pytest.mark.parametrize("count", [0, -1, 1001])
def test_an_impossible_number_of_hosts_is_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to 1000"):
        Lab.up(count, tmp_path / "run")
    assert not (tmp_path / "run").exists()
