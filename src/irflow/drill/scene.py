"""Everything that is up while a drill runs: lab, installation, stack, staged attack; torn down in reverse."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from irflow.core.errors import ServiceMissing, UsageError
from irflow.core.playbook import choose
from irflow.core.ports import Store
from irflow.core.severity import Severity
from irflow.drill.guard import Guard
from irflow.drill.installation import Installation, install
from irflow.drill.operator import COMMAND_PER_HOST_S, COMMAND_TIMEOUT_S, run_command
from irflow.drill.scenario import Attack, Scenario, Stage
from irflow.lab.lab import Lab
from irflow.lab.ladder import require_packets
from irflow.supervisor.stack import Stack, start_stack
from irflow.wiring import Configuration, load, open_store

if TYPE_CHECKING:
    from irflow.drill.estate import Estate

NAMED = 3
"""Up to so many attacked hosts are named one by one."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Scene:
    """What a drill plays with. home: the throw-away installation. kept: whether it is there afterwards."""

    home: Path
    kept: bool
    stage: Stage
    attack: Attack
    stack: Stack
    store: Store
    installation: Installation
    config: Configuration


@dataclass(frozen=True)
class Place:
    """Where a drill lives. temporary: whether the folder goes with it."""

    home: Path
    temporary: bool


def find_place(cleanup: ExitStack, out: Path | None, *, keep: bool) -> Place:
    """out: kept, in a new folder below it when it is not empty. keep: a temporary folder stays. Else it goes.

    A guard makes sure of that, and of the stack and the lab, if this process is killed.
    """
    if out is not None:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        full = any(out.iterdir())
        place = Place(Path(tempfile.mkdtemp(prefix="drill-", dir=out)) if full else out.absolute(), temporary=False)
    elif keep:
        place = Place(Path(tempfile.mkdtemp(prefix="irflow-drill-")), temporary=True)
    else:
        folder = tempfile.TemporaryDirectory(prefix="irflow-drill-", ignore_cleanup_errors=True)
        place = Place(Path(cleanup.enter_context(folder)), temporary=True)
    cleanup.enter_context(Guard(place.home, temporary=place.temporary))
    return place


def raise_scene(
    cleanup: ExitStack,
    place: Place,
    scenario: Scenario,
    *,
    hosts: int,
    sabotage: str | None,
    keep: bool,
    report: Report,
) -> Scene:
    """Bring everything up and break in. Raises ServiceMissing, UsageError, LabError, CheckFailed."""
    level = require_packets()
    home = place.home
    lab = cleanup.enter_context(Lab.up(hosts + 1, home / "lab", level=level))
    report(f"lab: {hosts + 1} hosts, level {level.value}")
    stage = Stage(lab, lab.hosts[:hosts], lab.hosts[hosts])
    if scenario.has_estate:
        stage = replace(stage, estate=_estate(cleanup, stage, report))
    installation = install(home, lab, sabotage=sabotage, settings=stage.estate.settings if stage.estate else None)
    if stage.estate:
        stage.estate.write_inventory(home)
    config = load(home)
    _require_steps(config, scenario, sabotage)
    stack = cleanup.enter_context(start_stack(config.settings, report=report))
    store = cleanup.enter_context(open_store(config.settings))
    scenario.prepare(stage)
    names = ",".join(host.name for host in stage.victims)
    run_command(
        installation, "run", "baseline", "--param", f"hosts={names}", "--local", "--yes", "--as",
        installation.operators[0], within_s=COMMAND_TIMEOUT_S + COMMAND_PER_HOST_S * hosts,
    )  # fmt: skip
    report("baseline taken")
    attack = scenario.attack(stage, cleanup)
    victims = names if hosts <= NAMED else f"{hosts} hosts"
    report(f"attack staged on {victims}: {attack.summary()}")
    kept = keep or not place.temporary
    return Scene(home, kept, stage, attack, stack, store, installation, config)


def _estate(cleanup: ExitStack, stage: Stage, report: Report) -> Estate:
    from irflow.drill.estate import raise_estate  # other scenarios need neither its programs nor its libraries

    estate = raise_estate(cleanup, stage.lab, stage.victims)
    report(f"servers: Vault, PostgreSQL, Redis; {len(estate.targets)} secrets")
    return estate


def _require_steps(config: Configuration, scenario: Scenario, sabotage: str | None) -> None:
    """A playbook answers the scenario's alert, and the step to sabotage exists: a typing error must pass no drill."""
    type_, severity = scenario.alert
    playbook = choose(tuple(config.catalog.playbooks.values()), type_, Severity(severity))
    if playbook is None:
        raise ServiceMissing(
            f"no playbook answers {severity} alerts of type {type_}: {scenario.name} has nothing to test"
        )
    runbooks = {call.runbook for calls in playbook.phases.values() for call in calls}
    steps = sorted(
        step.id for name in runbooks for step in config.catalog.runbooks[name].steps if step.action is not None
    )
    if sabotage is not None and sabotage not in steps:
        raise UsageError(f"no step {sabotage!r} in {playbook.playbook}", hint=f"There is {', '.join(steps)}")
