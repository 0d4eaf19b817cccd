"""kill -9 at every journal boundary of every action, over real SSH: its effect is there once, or not at all and known.

Each case has an incident, a host and a playbook that does nothing but this action. One engine process dies there, a
second one is started and lives. What comes before the first step of a phase is the same for all actions, and part of
test_crash_engine.py. A new action that reaches a host needs a row in tests/services/kill_rows.py.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from irflow.actions import load_actions
from irflow.core import decisions
from irflow.core.journal import Kind
from irflow.core.status import IncidentStatus, State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.wiring import load
from tests.services.engines import Engines, engines
from tests.services.irflow_site import Site, site
from tests.services.kill_rows import ROWS, Row, Stage

pytestmark = pytest.mark.timeout(300)

AT_ONCE = 8
NO_ROW = {
    "host.facts": "reads only, and keeps what it read in the outcome",
    "integrity.baseline": "reads only; what it keeps is evidence, as evidence.collect's",
    "integrity.check": "reads only, and keeps what it read in the outcome",
}
RUNBOOK = """\
runbook: {runbook}
title: Only {action}
parameters:
  hosts: {{type: hosts, required: true}}
steps:
{before}  - id: it
    title: Only this
    action: {action}
    for_each: "{{{{ hosts }}}}"
    with: {{host: "{{{{ item }}}}"{asked}}}
"""
CUT_FIRST = """\
  - {id: cut, title: Cut, action: host.isolate, for_each: "{{ hosts }}", with: {host: "{{ item }}"}}
"""
PLAYBOOK = """\
playbook: {runbook}
title: Only {action}
match: {{types: [{type}], severity: [critical]}}
roles: {{incident_commander: oncall}}
phases:
  containment: [{{runbook: {runbook}, with: {{hosts: "{{{{ incident.hosts }}}}"}}}}]
documents: []
"""


def boundaries(row: Row) -> tuple[str, ...]:
    """Before each commit of the step is durable, and after it."""
    before = ("claim#1", "step.intent#1")
    pieces = tuple(f"evidence.taken#{one + 1}" for one in range(row.evidence))
    points = (*before, *pieces, "step.outcome#1", "release#1")
    return tuple(f"{when}:{point}" for point in points for when in ("before", "after"))


def around(row: Row) -> tuple[str, ...]:
    """Between the intent and the outcome nothing is written, but the host changes."""
    return tuple(f"{when}:{call}" for call in row.calls for when in ("before", "after"))


CASES = tuple((row, point) for row in ROWS for point in (*boundaries(row), *around(row)))
# What lies before the intent is durable: a host that is changed by then was changed silently.
NOT_BEGUN = ("before:claim#1", "after:claim#1", "before:step.intent#1", "after:step.intent#1")


@dataclass(frozen=True)
class Ended:
    """What was found of one case: the effect before, after the kill and at the end, and what the journal says."""

    looks: tuple[str, str, str]
    first: tuple[int, str]
    second: tuple[int, str]
    status: IncidentStatus
    intents: tuple[int, ...]
    outcomes: tuple[dict[str, Any], ...]
    story: str

    @property
    def told(self) -> str:
        return f"{self.looks}\n{self.first}\n{self.second}\n{self.story}"


def write(home: Path) -> None:
    """The runbook and the playbook of each row."""
    for folder in ("runbooks", "playbooks"):
        (home / folder).mkdir(exist_ok=True)
    for row in ROWS:
        release = row.action == "host.release"
        names: dict[str, str] = {
            "action": row.action, "runbook": row.runbook, "type": row.type,
            "asked": row.asked and f", {row.asked}", "before": CUT_FIRST if release else "",
        }  # fmt: skip
        (home / "runbooks" / f"{row.runbook}.yaml").write_text(RUNBOOK.format(**names))
        (home / "playbooks" / f"{row.runbook}.yaml").write_text(PLAYBOOK.format(**names))


def begin(engine: Engines, here: Site, stage: Stage, row: Row) -> str:
    """An alert; and of what always needs a person, all up to this person's yes."""
    row.given(stage)
    incident = here.alert(stage.host.name, type=row.type)
    if row.action == "host.release":
        assert engine.run(here.home, incident)[0] == 0
        plan = decisions.waiting_plan(here.status(incident), None)
        who = here.config.operators[0]
        here.store.transact(lambda tx: decisions.decide(tx, incident, who, method="test", digest=plan.digest, yes=True))
    return incident


def carry_out(engine: Engines, here: Site, host: LabHost, row: Row, point: str) -> Ended:
    """One case from the alert to the end of the second engine."""
    with ExitStack() as closing:
        stage = Stage(here, host, {})
        closing.callback(stage.close)
        incident = begin(engine, here, stage, row)
        before = row.look(stage)
        die = ("die", point) if point in around(row) else ()
        first = engine.run(here.home, incident, *die, fault="" if die else point)
        killed = row.look(stage)
        second = engine.run(here.home, incident)
        step = f"{row.runbook}.it"
        return Ended(
            (before, killed, row.look(stage)),
            first,
            second,
            here.status(incident),
            tuple(one.epoch for one in here.events(incident, Kind.STEP_INTENT, step)),
            tuple(one.data for one in here.events(incident, Kind.STEP_OUTCOME, step)),
            here.story(incident),
        )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        Lab.up(len(CASES) + len(ROWS), tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as lab,
        site(tmp_path_factory.mktemp("site") / "home", lab, responder={"claim_stale": "1s"}) as made,
    ):
        write(made.home)
        yield replace(made, config=load(made.home))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with engines(tmp_path_factory.mktemp("engines") / "said") as made:
        yield made


@dataclass(frozen=True)
class Recorded:
    """One case that nobody killed: the fault points it passed."""

    looks: tuple[str, str]
    ended: tuple[int, str]
    points: list[str]


def record(engine: Engines, here: Site, host: LabHost, row: Row) -> Recorded:
    stage, file = Stage(here, host, {}), here.home / f"{row.type}.points"
    try:
        incident = begin(engine, here, stage, row)
        before = row.look(stage)
        ended = engine.run(here.home, incident, "record", str(file))
        return Recorded((before, row.look(stage)), ended, file.read_text().split())
    finally:
        stage.close()


@pytest.fixture(scope="module")
def recorded(here: Site, engine: Engines) -> Iterator[dict[str, Future[Recorded]]]:
    """Each action once, several at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        hosts = iter(here.lab.hosts[len(CASES) :])
        yield {row.action: pool.submit(record, engine, here, next(hosts), row) for row in ROWS}


@pytest.fixture(scope="module")
def cases(here: Site, engine: Engines) -> Iterator[dict[tuple[str, str], Future[Ended]]]:
    """All cases, several at a time."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        hosts = iter(here.lab.hosts)
        yield {(row.action, at): pool.submit(carry_out, engine, here, next(hosts), row, at) for row, at in CASES}


def test_every_action_that_reaches_a_host_has_a_row() -> None:
    reaching = {one.name for one in load_actions().all() if one.touches_host}
    assert reaching - {row.action for row in ROWS} == set(NO_ROW)
    assert not [one.name for one in load_actions().all() if one.mutates and one.name in NO_ROW]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.action)
def test_the_table_has_every_boundary_that_the_action_passes(row: Row, recorded: dict[str, Future[Recorded]]) -> None:
    one = recorded[row.action].result()
    assert one.ended[0] == 0, one.ended[1]
    assert one.looks == (row.before, row.after)
    begun, end = one.points.index("before:claim"), len(one.points) - one.points[::-1].index("after:release")
    counted = [f"{point}#{one.points[:place].count(point) + 1}" for place, point in enumerate(one.points)]
    assert sorted(counted[begun:end]) == sorted(boundaries(row))


@pytest.mark.parametrize(("row", "point"), CASES, ids=lambda one: one.action if isinstance(one, Row) else one)
def test_after_a_kill_the_effect_is_there_once(
    row: Row, point: str, here: Site, cases: dict[tuple[str, str], Future[Ended]]
) -> None:
    case = cases[row.action, point].result()
    assert case.first[0] == -signal.SIGKILL, f"the first engine did not pass this boundary\n{case.told}"
    assert case.second[0] == 0, case.told
    before, killed, after = case.looks
    assert before == row.before
    if point in NOT_BEGUN:
        assert killed == row.before, "the host was changed before the intent was durable"
    # The effect, seen from outside: once.
    assert after == row.after, case.told
    # The journal: nothing open, one outcome, proved; no epoch used twice.
    states = [step.state for key, step in case.status.steps.items() if f"{row.runbook}.it@" in key]
    assert states in ([State.DONE], [State.NOOP]), case.told
    (outcome,) = case.outcomes
    assert all(check["passed"] for check in outcome["checks"]), case.told
    assert list(case.intents) == sorted(set(case.intents))
    assert len(case.status.leases) == (row.action in ("host.isolate", "network.block_ip"))


def test_every_journal_verifies_after_all_that(here: Site, cases: dict[tuple[str, str], Future[Ended]]) -> None:
    for case in cases.values():
        case.result()
    assert here.verified() == []
