"""The other staged attacks are real too: each has what its scenario says, and cleaning takes all of it away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.lab import vantage
from irflow.lab.attack_account import StolenAccount
from irflow.lab.attack_brute_force import GUESSES, PASSWORD, BruteForce, weaken
from irflow.lab.attack_lateral import LateralMovement
from irflow.lab.lab import Lab
from irflow.lab.model import Level

_BLOCK = """\
table inet block {{
  chain input {{ type filter hook input priority -310; ip saddr {0} drop; ip6 saddr {1} drop; }}
  chain output {{ type filter hook output priority -310; ip daddr {0} drop; ip6 daddr {1} drop; }}
}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab.up(3, tmp_path / "run", level=Level.ROOT) as running:
        yield running


def test_guessing_passwords_fails_often_and_then_succeeds(lab: Lab) -> None:
    host = lab.hosts[0]
    weaken(lab, host)
    with BruteForce(lab, host) as intruder:
        assert intruder.right == [] and PASSWORD not in GUESSES
        assert intruder.failures() == len(GUESSES)
        assert intruder.session.ask("id -un", 5) == "bob"
        assert intruder.can_connect()
        assert intruder.beacon.seen_since(time.monotonic(), 5)

        assert lab.exec(host, ["nft", "-f", "-"], stdin=_BLOCK.format(*lab.attacker_addresses).encode()).returncode == 0
        blocked = time.monotonic()
        assert not intruder.session.echoes(1.0)
        assert not intruder.can_connect(2.5)
        assert not intruder.beacon.seen_since(blocked + 0.1, 2.5)
        assert vantage.look(lab, host, "attacker", timeout_s=0.3).dark
        assert vantage.look(lab, host, "visitor").v4 == "open", "who is at another address is not blocked"
        assert vantage.look(lab, host, "visitor").v6 == "open"
        assert lab.exec(host, ["nft", "delete", "table", "inet", "block"]).returncode == 0

        intruder.clean()
        intruder.clean()
        assert not intruder.can_connect()
        assert lab.exec(host, ["ps", "-u", "bob", "-o", "pid="]).stdout == b""


def test_a_stolen_account_has_every_way_of_staying(lab: Lab) -> None:
    host = lab.hosts[1]
    with StolenAccount(lab, host) as intruder:
        assert intruder.session.ask("id -un", 5) == "deploy"
        assert intruder.stolen_key_works() and intruder.planted_key_works()
        assert intruder.beacon.seen_since(time.monotonic(), 5)
        assert intruder.cron_job() and intruder.processes()
        there = lab.exec(host, ["sh", "-c", "command -v at"]).returncode == 0
        assert intruder.has_at is intruder.at_job() is there
        changed = lab.diff(host)
        assert "/home/deploy/.ssh/authorized_keys" in changed and "/var/spool/cron/crontabs/deploy" in changed

        intruder.clean()
        intruder.clean()
        cleaned = time.monotonic()
        assert not (intruder.session_alive() or intruder.stolen_key_works() or intruder.planted_key_works())
        assert not (intruder.cron_job() or intruder.at_job() or intruder.processes())
        assert not intruder.beacon.seen_since(cleaned + 0.1, 1.0)
        own = [*vantage.ssh_argv(lab, host, "visitor", user="alice"), "id -un"]
        assert lab.run_from("visitor", own).stdout == b"alice\n", "others work on"


def test_lateral_movement_goes_from_host_to_host(lab: Lab) -> None:
    entry, *others = lab.hosts
    with LateralMovement(lab, lab.hosts) as intruder:
        assert intruder.sessions[entry.name].ask("id -un; hostname", 5) == "mallory\nweb-1"
        for host in others:
            assert intruder.sessions[host.name].ask("id -un; hostname", 5) == f"deploy\n{host.name}"
            assert intruder.can_hop(host) and intruder.reaches(entry, host)
            peers = lab.exec(host, ["ss", "-Htn", "state", "established"]).stdout.decode()
            assert f"{entry.address}:" in peers, "the session comes from the first host, not from outside"
        for beacon in intruder.beacons.values():
            assert beacon.seen_since(time.monotonic(), 5)

        lab.unplug(entry)
        try:
            assert not any(intruder.session_alive(host) for host in lab.hosts)
            assert not intruder.reaches(entry, others[0])
            assert intruder.beacons[others[0].name].seen_since(time.monotonic(), 5), "its own beacon needs no way back"
        finally:
            lab.plug(entry)

        intruder.clean()
        intruder.clean()
        assert not any(intruder.session_alive(host) for host in lab.hosts)
        assert not any(intruder.can_hop(host) for host in others)


def test_an_attack_that_fails_half_way_leaves_no_client(lab: Lab) -> None:
    lab.exec(lab.hosts[2], ["usermod", "-e", "1", "deploy"])
    with pytest.raises(Exception, match="does not answer"):
        LateralMovement(lab, lab.hosts)
    namespace = lab.netns("attacker")
    assert namespace is not None
    assert lab.run_from("attacker", ["ss", "-Htn", "state", "established"]).stdout == b""
