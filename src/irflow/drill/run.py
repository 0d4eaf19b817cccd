"""Running a drill: lab up, attack staged, alert sent, production flow watched, effects checked from outside."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from irflow.core.errors import CheckFailed, IrflowError, UsageError
from irflow.core.incident import Incident
from irflow.core.status import IncidentStatus, fold
from irflow.drill import checks, findings, scenarios
from irflow.drill.alert import sound
from irflow.drill.operator import COMMAND_PER_HOST_S, COMMAND_TIMEOUT_S, ScriptedOperators
from irflow.drill.scenario import Scenario
from irflow.drill.scene import Report, Scene, find_place, raise_scene
from irflow.drill.scorecard import CheckScore, Scorecard, phase_scores
from irflow.supervisor.stack import memory_table
from irflow.wiring import verify_journals

CONTAIN_WITHIN_S = 60.0
CLOSE_WITHIN_S = 240.0


def run_drill(
    scenario: str, *, hosts: int | None, out: Path | None, keep: bool, sabotage: str | None, report: Report
) -> Scorecard:
    """Run one drill from nothing to nothing.

    hosts: how many are attacked; None takes the scenario's least. out: where the throw-away installation goes (kept
    there); a temporary folder otherwise. keep: leave everything up. Raises UsageError for an unknown scenario, too few
    hosts or an unknown step, IrflowError when a part does not come up.
    """
    found = scenarios.find(scenario)
    number = found.least_hosts if hosts is None else hosts
    if number < found.least_hosts:
        raise UsageError(f"{scenario} needs at least {found.least_hosts} hosts, not {number}")
    started = time.monotonic()
    with ExitStack() as around, ExitStack() as cleanup:
        place = find_place(around, out, keep=keep)
        scene = raise_scene(cleanup, place, found, hosts=number, sabotage=sabotage, keep=keep, report=report)
        card = _play(scene, found, sabotage, started, report)
        if keep:
            scene.stack.detach()
            cleanup.pop_all()
            _say_where(scene, card.incident, report)
    return card


def _say_where(scene: Scene, incident: str, report: Report) -> None:
    command = f"irflow --home {scene.home}"
    report(f"left up: {scene.stack.web_url} (irflow), {scene.stack.prefect_ui} (Prefect), hosts of level "
           f"{scene.stage.lab.level.value}")  # fmt: skip
    report(f"look: {command} incidents show {incident}")
    report(f"look: {command} lab from attacker -- ping -c1 {scene.stage.victims[0].address}")
    report(f"look: {command} lab from machine -- curl -s {scene.stack.web_url}/health")
    report(f"take it down: {command} lab down --stack")
    report(f"documents, evidence and journal stay in {scene.home} until you remove it")


def _play(scene: Scene, scenario: Scenario, sabotage: str | None, started: float, report: Report) -> Scorecard:
    first, last = scene.attack.contained(), scene.attack.recovered()
    before = checks.ask([*first, *last])
    victims = [one.name for one in scene.stage.victims]
    sent_at = datetime.now(UTC)
    incident = _alert(scene, report)
    people = _operators(scene, incident, len(victims))
    contained = _contain(people, scenario, victims, sent_at, report)
    results = checks.score(first, before[: len(first)], checks.ask(first))
    if not all(one.passed for one in results):
        contained = None  # claimed, but not so
    problems = _answer_everything(people, len(victims), report)
    results += checks.score(last, before[len(first) :], checks.ask(last))
    status = fold(scene.store.events(incident.id))
    shown = scene.home / "documents" if scene.kept else Path("documents")
    results += scene.attack.afterwards(status)
    documents = findings.documents(scene.home / "documents", status, shown)
    results += findings.evidence_scores(
        scene.home / "evidence", status, victims, scenario.profiles, scene.attack.traces()
    )
    results += [findings.document_score(scenario.documents, documents), *problems]
    return Scorecard(
        scenario=scenario.name,
        level=scene.stage.lab.level.value,
        incident=incident.number,
        hosts=len(victims),
        phases=phase_scores(status, datetime.now(UTC)),
        checks=tuple(results),
        time_to_contain_s=contained,
        documents=documents,
        journal_verified=all(one.intact for one in verify_journals(scene.config.settings, None)),
        seconds=time.monotonic() - started,
        processes=tuple((name, pss) for name, _, pss in memory_table(scene.stack.pids())),
        sabotage=sabotage,
    )


def _alert(scene: Scene, report: Report) -> Incident:
    reply = sound(scene.stack.web_url, scene.installation, scene.attack.alarm())
    incident = scene.store.find_incident(reply["alerts"][0]["incident_id"])
    if incident is None:
        raise CheckFailed("the incident that web named is not in the journal", where=scene.stack.web_url)
    report(f"alert accepted: {incident.number}")
    return incident


def _operators(scene: Scene, incident: Incident, hosts: int) -> ScriptedOperators:
    return ScriptedOperators(
        scene.installation, scene.store, incident.id, incident.number, scene.attack.before_answer(),
        command_s=COMMAND_TIMEOUT_S + COMMAND_PER_HOST_S * hosts,
    )  # fmt: skip


def _contain(
    people: ScriptedOperators, scenario: Scenario, victims: list[str], sent_at: datetime, report: Report
) -> float | None:
    """Seconds from the request's arrival to the last proved step; None when that did not come in time."""

    where = victims if scenario.on_hosts else []

    def over(status: IncidentStatus) -> bool:
        return findings.contained_at(status, scenario.containing, where) is not None or findings.stuck(status)

    try:
        status = people.serve(
            CONTAIN_WITHIN_S + COMMAND_PER_HOST_S * len(victims), until=over, phases=("detection", "containment")
        )
    except IrflowError as error:
        report(f"not contained: {error}")
        return None
    moment = findings.contained_at(status, scenario.containing, where)
    if moment is None:
        report("not contained")
        return None
    seconds = (moment - sent_at).total_seconds()
    many = f" {len(victims)} host{'s' if len(victims) > 1 else ''}" if where else ""
    report(f"contained{many} in {seconds:.2f} s")
    return seconds


def _answer_everything(people: ScriptedOperators, hosts: int, report: Report) -> list[CheckScore]:
    """Let the operators take the incident to its end; a way that does not get there is a failed check."""
    after, passed = "closed", True
    try:
        people.serve(CLOSE_WITHIN_S + COMMAND_PER_HOST_S * hosts)
    except IrflowError as error:
        report(str(error))
        after, passed = str(error), False
    for command in people.commands:
        report(f"operator: {command}")
    return [CheckScore(name="incident closed", before="open", after=after, passed=passed)]
