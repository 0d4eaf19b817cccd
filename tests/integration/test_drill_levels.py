"""A drill without root: by packets where a user namespace allows it, and else not at all, with every reason."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from tests.integration.drill_command import left
from tests.integration.stand_in import NO_SUB_IDS, StandIn, stand_in

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def user() -> Iterator[StandIn]:
    with stand_in() as one:
        yield one
        for home in one.tmp.glob("irflow-drill-*"):
            one.irflow("--home", str(home), "lab", "down", "--stack")


def test_an_ordinary_user_drills_on_real_hosts_and_may_keep_them(user: StandIn) -> None:
    done = user.irflow("drill", "--keep", "--json", "card.json")
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((user.folder / "home/card.json").read_text())
    assert (card["level"], card["passed"]) == ("userns", True)
    assert "not root: going on within a user namespace" in done.stderr

    (line,) = re.findall(r"^take it down: (.*)$", done.stderr, re.MULTILINE)
    command = shlex.split(line)[1:]
    home = command[:2]
    assert user.irflow(*home, "lab", "exec", "web-1", "--", "id", "-u").stdout == "0\n"
    web, port = re.findall(r"http://(127\.0\.0\.1):(\d+)", done.stderr)[0]
    knock = f"exec 3<>/dev/tcp/{web}/{port}; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    assert " 200 OK" in user.irflow(*home, "lab", "from", "machine", "--", "bash", "-c", knock).stdout
    assert len(left(user.tmp)) > 10, "the finder of leftovers must find a living drill"

    down = user.irflow(*command)

    assert (down.returncode, down.stdout) == (0, "down\n"), down.stderr
    assert left(user.tmp) == [f"folder {home[1]}"]


def test_an_ordinary_user_without_sub_ids_is_told_what_is_missing(user: StandIn) -> None:
    done = user.irflow("drill", sub_ids=NO_SUB_IDS)
    assert (done.returncode, done.stdout) == (7, "")
    assert "nothing could be proved" in done.stderr
    assert "lab level: loopback" in done.stderr
    assert "not root: not root (uid 4242): run it as root, or with sudo" in done.stderr
    assert (
        "not userns: /etc/subuid gives standin fewer than 65535 ids: add the line standin:100000:65536" in done.stderr
    )
    assert left(user.tmp) == []


def test_an_account_that_cannot_log_in_is_told_that_no_hosts_are_possible(user: StandIn) -> None:
    done = user.irflow("drill", sub_ids=NO_SUB_IDS, shell="/usr/sbin/nologin")
    assert (done.returncode, done.stdout) == (7, "")
    assert "lab level: fake" in done.stderr
    assert "not loopback: the account standin has no login shell" in done.stderr
