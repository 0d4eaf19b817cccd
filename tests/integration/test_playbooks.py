"""Shipped playbooks that no drill plays, from the alert to the review, by the commands of the people who decide.

The effects are seen from the attacker's side; see test_drill_scenarios_played.py for the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from irflow.core.playbook import Phase
from irflow.lab.intruder import works
from irflow.lab.lab import Lab
from irflow.lab.layout import VISITOR
from irflow.lab.model import LabHost, Level
from irflow.lab.vantage import ssh_argv, tcp
from irflow.shipped import shipped
from tests.integration.cli_site import FIRST, Desk, desk
from tests.services.on_host import on

pytestmark = pytest.mark.timeout(420)

MALWARE = b"#!/bin/sh\nexec sleep 4242\n"
PHASES = (Phase.DETECTION, Phase.CONTAINMENT, Phase.RECOVERY, Phase.LESSONS_LEARNED)


@dataclass(frozen=True)
class Told:
    """What an alert of this type says besides its hosts, and what was arranged on the host before.

    harm: what others can do with the host, in words. people: how many had to agree to containment.
    """

    type: str
    alert: dict[str, object]
    before: str
    contained: str
    harm: Callable[[Lab, LabHost], str]
    people: int
    given: Callable[[Lab, LabHost], None] = lambda lab, host: None
    documents: tuple[str, ...] = ("incident-report", "post-incident-review")


def infect(lab: Lab, host: LabHost) -> None:
    on(lab, host, "cat >/usr/local/bin/helper; chmod 755 /usr/local/bin/helper", MALWARE)
    on(lab, host, "setsid /usr/local/bin/helper </dev/null >/dev/null 2>&1 &")


def malware(lab: Lab, host: LabHost) -> str:
    there = on(lab, host, "ls /usr/local/bin").split()
    return f"{there}, {_reach(lab, host, 'attacker')}"


def reach(lab: Lab, host: LabHost) -> str:
    return _reach(lab, host, "attacker")


def flood(lab: Lab, host: LabHost) -> str:
    return f"visitor {_reach(lab, host, 'visitor')}, attacker {_reach(lab, host, 'attacker')}"


def _reach(lab: Lab, host: LabHost, vantage: str) -> str:
    return str(tcp(lab.netns(vantage), host.address, host.port, timeout_s=0.3))


def login(lab: Lab, host: LabHost) -> str:
    argv = ssh_argv(lab, host, "attacker", user="bob", key=lab.responder_key)
    return "gets in" if works(lab, argv, 5.0) else "is refused"


STORIES = {
    "malware": Told(
        "malware", {"hashes": [hashlib.sha256(MALWARE).hexdigest()]}, "['helper'], open", "[], silent", malware, 0,
        given=infect,
    ),
    "data-breach": Told("data_breach", {"addresses": [VISITOR[0]]}, "open", "silent", reach, 0),
    "insider-threat": Told("insider_threat", {"accounts": ["bob"]}, "gets in", "is refused", login, 2),
    "denial-of-service": Told(
        "denial_of_service", {"addresses": [VISITOR[0]]}, "visitor open, attacker open",
        "visitor silent, attacker open", flood, 0,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(len(STORIES), tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def here(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = desk(tmp_path_factory.mktemp("site") / "home", lab)
    # The shipped runbook hashes all of /usr, which on a lab host is that of the whole machine.
    shorter = (shipped("runbooks") / "remove-malware.yaml").read_text().replace(", /usr,", ", /usr/local,")
    assert "/usr/local" in shorter
    (made.home / "runbooks").mkdir(exist_ok=True)
    (made.home / "runbooks" / "remove-malware.yaml").write_text(shorter)
    hosts = ",".join(one.name for one in lab.hosts)
    taken = made.irflow("run", "baseline", "--param", f"hosts={hosts}", "--local", "--yes", "--as", FIRST)
    assert taken.code == 0, taken.err
    return made


@pytest.mark.parametrize("name", STORIES)
def test_the_playbook_ends_with_the_harm_ended_everything_back_and_the_documents_written(
    name: str, here: Desk, lab: Lab
) -> None:
    story, host = STORIES[name], lab.hosts[list(STORIES).index(name)]
    story.given(lab, host)
    assert story.harm(lab, host) == story.before
    number = here.alert(host.name, severity="critical", type=story.type, **story.alert)
    here.go_through(number, Phase.DETECTION)
    approvals = here.go_through(number, Phase.CONTAINMENT)
    assert approvals == story.people
    assert story.harm(lab, host) == story.contained
    assert name in here.irflow("incidents", "show", number, "--json").out
    here.go_through(number, Phase.RECOVERY, undo=name != "malware")  # what is in quarantine stays there
    assert story.harm(lab, host) == ("[], open" if name == "malware" else story.before)
    here.go_through(number, Phase.LESSONS_LEARNED)
    status = here.status(number)
    assert not status.leases
    written = {one["name"] for one in here.irflow("documents", "list", number, "--json").json}
    assert {one for one in story.documents if any(one in each for each in written)} == set(story.documents)
    assert here.irflow("journal", "verify", number).code == 0
