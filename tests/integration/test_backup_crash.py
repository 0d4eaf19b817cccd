"""kill -9 of the engine around a backup: the next one leaves exactly one whole backup and nothing half done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irflow.core.backups import Stored
from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.wiring import backup_repository
from tests.services.engines import Engines, engines
from tests.services.irflow_site import Site, site

pytestmark = pytest.mark.timeout(240)

STEP = "save.backup"
AT_ONCE = 2
FAULTS = ("after:step.intent#1", "before:step.outcome#1")
CALLS = ("during:backup.sh tar", "after:backup.sh tar")
# Alone, so that nothing else is between the boundaries; that it comes after the cut is another test.
RUNBOOK = """\
runbook: save
title: Back up only
parameters:
  hosts: {type: hosts, required: true}
steps:
  - id: backup
    title: Back up
    action: backup.emergency
    for_each: "{{ hosts }}"
    with: {host: "{{ item }}", paths: [/srv]}
"""
PLAYBOOK = """\
playbook: system-compromise
title: Back up only
match: {types: [system_compromise], severity: [critical]}
roles: {incident_commander: oncall}
phases:
  containment: [{runbook: save, with: {hosts: "{{ incident.hosts }}"}}]
documents: []
"""


@dataclass(frozen=True)
class Ended:
    """What was found of one case. stored: what the repository has of the step."""

    first: int
    second: tuple[int, str]
    states: set[State]
    outcomes: list[dict[str, Any]]
    stored: tuple[Stored, ...]
    left_on_host: bytes


def carry_out(engine: Engines, here: Site, host: LabHost, boundary: str) -> Ended:
    here.lab.exec(host, ["sh", "-c", "mkdir -p /srv; head -c 8000000 /dev/urandom >/srv/data"])
    incident = here.alert(host.name)
    die = ("die", boundary) if boundary in CALLS else ()
    first, _ = engine.run(here.home, incident, *die, fault="" if die else boundary)
    second = engine.run(here.home, incident)
    intents = here.events(incident, Kind.STEP_INTENT, STEP)
    keys = sorted({change["data"]["key"] for one in intents for change in one.data["changes"]})
    return Ended(
        first,
        second,
        {step.state for step in here.status(incident).steps.values()},
        [one.data for one in here.events(incident, Kind.STEP_OUTCOME, STEP)],
        backup_repository(here.config.settings).find(keys, timeout_s=30),
        here.lab.exec(host, ["sh", "-c", "pgrep -x 'tar|tee|sha256sum'; ls -A /dev/shm"]).stdout,
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hosts = len(FAULTS) + len(CALLS)
    with (
        Lab.up(hosts, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as lab,
        site(_home(tmp_path_factory), lab, responder={"claim_stale": "1s"}) as made,
    ):
        yield made


def _home(factory: pytest.TempPathFactory) -> Path:
    home = factory.mktemp("site") / "home"
    for name, text in (("runbooks/save", RUNBOOK), ("playbooks/system-compromise", PLAYBOOK)):
        (home / name).parent.mkdir(parents=True)
        (home / f"{name}.yaml").write_text(text)
    home.chmod(0o700)
    return home


@pytest.fixture(scope="module")
def cases(here: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Ended]]]:
    """All cases, several at a time."""
    with engines(tmp_path_factory.mktemp("engines") / "said") as engine, ThreadPoolExecutor(AT_ONCE) as pool:
        hosts = iter(here.lab.hosts)
        yield {one: pool.submit(carry_out, engine, here, next(hosts), one) for one in (*FAULTS, *CALLS)}


@pytest.mark.parametrize("boundary", [*FAULTS, *CALLS])
def test_one_whole_backup_is_there_after_a_kill(boundary: str, cases: dict[str, Future[Ended]]) -> None:
    case = cases[boundary].result()
    assert case.first == -signal.SIGKILL, "the first engine did not pass this boundary"
    assert case.second[0] == 0, case.second[1]
    assert case.states <= {State.DONE, State.NOOP}
    # What the killed engine's restic still stored at its end has no receipt: it never counts as a backup.
    (one,) = [stored for stored in case.stored if stored.whole]
    (outcome,) = case.outcomes
    assert outcome["facts"]["snapshots"] == [one.id]
    assert all(check["passed"] for check in outcome["checks"])
    assert case.left_on_host == b""


def test_nothing_is_locked_or_open_afterwards(here: Site, cases: dict[str, Future[Ended]]) -> None:
    for case in cases.values():
        case.result()
    assert list((here.home / "backups/locks").iterdir()) == []
    assert here.verified() == []
