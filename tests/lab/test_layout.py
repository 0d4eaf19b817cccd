"""Names and addresses of a lab are distinct and depend on its directory alone."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from irflow.lab import state
from irflow.lab.layout import ATTACKER, GATEWAY, MOST_HOSTS, RESPONDER, Layout, host_address, host_address6
from irflow.lab.model import LabError, LabHost, Level, State


def test_every_host_has_addresses_of_its_own() -> None:
    v4 = {host_address(index) for index in range(MOST_HOSTS)} | {GATEWAY, RESPONDER[0], ATTACKER[0]}
    v6 = {host_address6(index) for index in range(MOST_HOSTS)} | {RESPONDER[1], ATTACKER[1]}
    assert len(v4) == MOST_HOSTS + 3
    assert len(v6) == MOST_HOSTS + 2
    assert all(ipaddress.ip_address(one) in ipaddress.ip_network("10.77.0.0/16") for one in v4)


def test_the_id_depends_on_the_directory_alone(tmp_path: Path) -> None:
    assert Layout(tmp_path / "a").id == Layout(tmp_path / "b" / ".." / "a").id
    assert Layout(tmp_path / "a").id != Layout(tmp_path / "b").id
    assert len(Layout(tmp_path).netns("mgmt").name) < 32


def test_the_state_file_gives_back_what_was_written(tmp_path: Path) -> None:
    host = LabHost("web-1", 0, "10.77.1.1", "fd77::1:1", 22, "ssh-ed25519 AAAA", 42, 4711)
    written = State("0123abcd", "drill", Level.ROOT, ready=True, hosts=(host,))
    state.write(Layout(tmp_path), written)
    assert state.read(Layout(tmp_path)) == written


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"id": "x"', '{"id":"x","name":"y","level":"best","ready":1,"hosts":[]}']
)
def test_a_damaged_state_file_is_an_error_that_says_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match="irflow lab down"):
        state.read(Layout(tmp_path))


def test_one_maker_at_a_time(tmp_path: Path) -> None:
    with state.lock(tmp_path), pytest.raises(LabError, match="another process"), state.lock(tmp_path):
        pytest.fail("the second lock must not be given")
    with state.lock(tmp_path):
        pass
