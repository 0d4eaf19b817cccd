"""The staged attack is alive until packets are dropped, comes back with them, and is over when cleaned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.lab import attack, vantage
from irflow.lab.lab import Lab
from irflow.lab.model import Level

_CUT = b"""
table inet cut {
  chain input { type filter hook input priority -310; policy drop; }
  chain output { type filter hook output priority -310; policy drop; }
}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab.up(2, tmp_path / "run", level=Level.ROOT) as running:
        yield running


def cut(lab: Lab) -> None:
    assert lab.exec(lab.hosts[0], ["nft", "-f", "-"], stdin=_CUT).returncode == 0


def test_the_attacker_is_in_before_the_cut_and_out_after_it(lab: Lab) -> None:
    host = lab.hosts[0]
    with attack.stage(lab, host) as intruder:
        assert vantage.look(lab, host).v4 == "open"
        assert intruder.session_alive() and intruder.can_connect()
        assert intruder.beacon_seen_since(time.monotonic(), 5)

        cut(lab)
        dark_since = time.monotonic()

        assert vantage.look(lab, host, timeout_s=0.5).dark
        assert not intruder.session_alive(1.0)
        assert not intruder.can_connect(1.0)
        assert not intruder.beacon_seen_since(dark_since + 0.1, 2.5)

        assert lab.exec(host, ["nft", "delete", "table", "inet", "cut"]).returncode == 0
        assert intruder.beacon_seen_since(time.monotonic(), 10), "the implant goes on once it is let out"
        assert intruder.session_alive(20) and intruder.can_connect()


def test_the_beacon_runs_from_a_deleted_binary_as_the_stolen_account(lab: Lab) -> None:
    with attack.stage(lab, lab.hosts[0]) as intruder:
        pid = intruder.beacon_pid
        seen = lab.exec(
            lab.hosts[0], ["sh", "-c", f"readlink /proc/{pid}/exe; ps -o user= -p {pid}; who"]
        ).stdout.decode()
        exe, user, session = seen.strip().split("\n")
        assert exe == f"{intruder.implant} (deleted)"
        assert user == "mallory"
        assert session.startswith("mallory ") and lab.attacker_addresses[0] in session
        sockets = lab.exec(lab.hosts[0], ["ss", "-tn"]).stdout.decode()
        assert lab.attacker_addresses[0] in sockets


def test_exactly_the_tampered_files_differ_and_cleaning_restores_them(lab: Lab) -> None:
    host = lab.hosts[0]
    before = lab.exec(host, ["cat", "/etc/crontab"]).stdout
    with attack.stage(lab, host) as intruder:
        assert lab.diff(host) == sorted(intruder.tampered_paths)
        assert lab.exec(host, ["cat", "/etc/crontab"]).stdout != before

        intruder.clean()
        intruder.clean()

        cleaned = time.monotonic()
        assert lab.exec(host, ["cat", "/etc/crontab"]).stdout == before
        assert lab.exec(host, ["test", "-e", "/usr/local/bin/syshealth"]).returncode == 1
        assert lab.exec(host, ["ps", "-u", "mallory", "-o", "pid="]).stdout == b""
        assert not intruder.session_alive(1.0)
        assert not intruder.can_connect()
        assert not intruder.beacon_seen_since(cleaned + 0.1, 1.0)
        assert vantage.look(lab, host).v4 == "open", "the host itself is back for everyone else"


def test_attacks_on_two_hosts_do_not_mistake_each_others_beacons(lab: Lab) -> None:
    with attack.stage(lab, lab.hosts[0]) as first, attack.stage(lab, lab.hosts[1]) as second:
        cut(lab)
        since = time.monotonic() + 0.1
        assert second.beacon_seen_since(since, 5)
        assert not first.beacon_seen_since(since, 1.0)


def test_stopping_ends_the_attackers_side_only(lab: Lab) -> None:
    intruder = attack.stage(lab, lab.hosts[0])
    intruder.stop()
    intruder.stop()
    assert not intruder.session_alive(0.5)
    assert lab.exec(lab.hosts[0], ["kill", "-0", str(intruder.beacon_pid)]).returncode == 0
    port = intruder.beacon.listener.port
    assert vantage.tcp(lab.netns("attacker"), lab.attacker_addresses[0], port) == "refused"
