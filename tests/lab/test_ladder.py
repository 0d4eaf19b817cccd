"""The ladder names the best reachable level and says exactly what each better one lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from irflow.core.errors import ServiceMissing
from irflow.lab import ladder
from irflow.lab.lab import Lab
from irflow.lab.model import Level


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine where no program is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ladder, "_SEARCH", str(tmp_path))


def test_root_on_debian_reaches_the_best_level() -> None:
    assert ladder.detect() is Level.ROOT
    assert ladder.explain(ladder.rungs()) == "lab level: root"


def test_nothing_installed_means_no_hosts_and_every_missing_program_by_name(bare_machine: None) -> None:
    found = ladder.rungs()
    assert [rung.level for rung in found] == [Level.ROOT, Level.USERNS, Level.LOOPBACK, Level.FAKE]
    text = ladder.explain(found)
    assert text.startswith("lab level: fake\n  not root: missing programs: conntrack cron ip iptables nft")
    assert "openssh-server" in text and "newuidmap" in text
    assert "this is not Debian" in text


def test_nobody_pretends_when_no_level_is_reachable(bare_machine: None, tmp_path: Path) -> None:
    with pytest.raises(ServiceMissing, match="no lab hosts are possible") as caught:
        Lab.up(1, tmp_path / "run")
    assert "missing programs: ssh ssh-keygen sshd" in str(caught.value)


def test_on_debian_the_packages_to_install_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(ladder, "_SEARCH", str(tmp_path))
    with pytest.raises(ServiceMissing, match="apt-get install openssh-client openssh-server"):
        ladder.require(Level.LOOPBACK)


def test_an_ordinary_user_is_told_to_use_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(ServiceMissing, match=r"not root \(uid 4242\): run it as root, or with sudo"):
        ladder.require(Level.ROOT)


@pytest.mark.parametrize(
    ("rows", "enough"),
    [("ann:100000:65536\n", True), ("ann:100000:1000\n", False), ("bob:1:65536\n", False), ("broken\n", False)],
)
def test_sub_ids_count_only_for_their_owner(rows: str, enough: bool, tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text(rows)
    assert (ladder._subordinate(tmp_path / "subuid", "ann") >= 65535) is enough


def test_only_levels_with_own_networks_prove_packets() -> None:
    assert [level.proves_packets for level in Level] == [True, True, False, False]
