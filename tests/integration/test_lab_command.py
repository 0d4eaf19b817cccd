"""`irflow lab` as a person gives it: hosts up, commands on them and from everywhere around them, and all gone again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.lab.layout import Layout
from tests.integration.drill_command import IRFLOW, Done, irflow
from tests.integration.lab_leftovers import leftovers
from tests.integration.stand_in import StandIn, stand_in


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where two hosts are up."""
    found = tmp_path_factory.mktemp("lab-command") / "home"
    try:
        done = irflow("--home", found, "lab", "up", "2", "--json", tmp=found.parent)
        assert done.code == 0, done.err
        data = json.loads(done.out)
        assert (data["level"], [one["name"] for one in data["hosts"]]) == ("root", ["web-1", "web-2"])
        yield found
    finally:
        assert irflow("--home", found, "lab", "down", tmp=found.parent).code == 0
    assert leftovers(found / "lab", Layout(found / "lab").id) == []
    assert irflow("--home", found, "lab", "down", tmp=found.parent).code == 0, "twice is fine"


def lab(home: Path, *arguments: str) -> Done:
    return irflow("--home", home, "lab", *arguments, tmp=home.parent)


def test_a_command_runs_on_a_host_with_or_without_the_dashes(home: Path) -> None:
    assert lab(home, "exec", "web-1", "--", "hostname").out == "web-1\n"
    assert lab(home, "exec", "web-2", "hostname").out == "web-2\n"
    assert lab(home, "exec", "web-1", "--", "echo", "--", "-x").out == "-- -x\n", "only the first ones are ours"


def test_input_output_and_status_pass_through(home: Path) -> None:
    argv = [*IRFLOW, "--home", str(home), "lab", "exec", "web-1", "--", "sh", "-c", "cat; echo oops >&2; exit 9"]
    done = subprocess.run(argv, input=b"a\0\xff\n", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (9, b"a\0\xff\n", b"oops\n")


@pytest.mark.parametrize(
    ("vantage", "address"),
    [("responder", "10.77.0.10"), ("attacker", "10.77.0.66"), ("visitor", "10.77.0.99")],
)
def test_every_vantage_point_has_its_own_address(vantage: str, address: str, home: Path) -> None:
    assert f"src {address} " in lab(home, "from", vantage, "--", "ip", "route", "get", "10.77.1.1").out
    knock = ("bash", "-c", "exec 3<>/dev/tcp/10.77.1.1/22; head -c 4 <&3")
    assert lab(home, "from", vantage, "--", *knock).out == "SSH-"


def test_the_machine_itself_is_a_place_to_look_from(home: Path) -> None:
    here = Path("/proc/self/ns/net").readlink()
    assert lab(home, "from", "machine", "--", "readlink", "/proc/self/ns/net").out == f"{here}\n"


def test_what_is_not_there_is_said(home: Path, tmp_path: Path) -> None:
    unknown = lab(home, "exec", "db-1", "--", "true")
    assert unknown.code == 2 and "web-1, web-2" in unknown.err
    nowhere = lab(home, "from", "moon", "--", "true")
    assert nowhere.code == 2 and "responder, attacker, visitor, machine" in nowhere.err
    assert lab(home, "exec", "web-1", "--").code == 2
    none = lab(tmp_path, "exec", "web-1", "--", "true")
    assert none.code == 1 and "irflow lab up" in none.err


@pytest.fixture
def user() -> Iterator[StandIn]:
    """An ordinary user with two hosts up; the test takes them down."""
    with stand_in() as one:
        up = one.irflow("lab", "up", "2", "--json")
        try:
            assert up.returncode == 0, up.stderr
            assert json.loads(up.stdout)["level"] == "userns"
            yield one
        finally:
            down = one.irflow("lab", "down")
        assert (down.returncode, down.stdout) == (0, "down\n"), down.stderr
        run_dir = one.folder / "home/.local/state/irflow/lab"
        assert not run_dir.exists()
        assert leftovers(one.folder, Layout(run_dir).id) == []


def test_an_ordinary_user_comes_back_to_the_hosts_it_left_up(user: StandIn) -> None:
    seen = user.irflow("lab", "exec", "web-2", "--", "sh", "-c", "id -u; hostname")
    assert seen.stdout == "0\nweb-2\n", seen.stderr
    knock = ("bash", "-c", "exec 3<>/dev/tcp/10.77.1.2/22; head -c 4 <&3")
    assert user.irflow("lab", "from", "attacker", "--", *knock).stdout == "SSH-"


def test_hosts_whose_user_namespace_nobody_holds_can_still_be_removed(user: StandIn) -> None:
    state = json.loads((user.folder / "home/.local/state/irflow/lab/lab.json").read_text())
    os.kill(state["keeper"], signal.SIGKILL)
    seen = user.irflow("lab", "exec", "web-1", "--", "true")
    assert seen.returncode == 1 and "Remove it: irflow lab down" in seen.stderr
