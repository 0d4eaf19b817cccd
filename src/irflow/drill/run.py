"""Running a drill: lab up, attack staged, alert sent, production flow watched, effects checked from outside."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from irflow.core.errors import CheckFailed, IrflowError, UsageError
from irflow.core.incident import Incident
from irflow.core.journal import Kind
from irflow.core.model import from_text
from irflow.core.ports import Store
from irflow.core.status import IncidentStatus, fold
from irflow.drill import checks
from irflow.drill.alert import send
from irflow.drill.installation import Installation, install
from irflow.drill.operator import ScriptedOperators, run_command
from irflow.drill.scorecard import CheckScore, DocumentScore, Scorecard, phase_scores
from irflow.lab.attack import StagedAttack, stage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.supervisor.stack import Stack, memory_table, start_stack
from irflow.wiring import load, open_store, verify_journals

SCENARIOS = ("compromised-host",)
CONTAIN_WITHIN_S = 60.0
CLOSE_WITHIN_S = 240.0

Report = Callable[[str], None]


@dataclass
class _Scene:
    """Everything that is up while a drill runs."""

    lab: Lab
    stack: Stack
    store: Store
    installation: Installation
    attacks: list[StagedAttack]
    bystander: LabHost
    rulesets: dict[str, bytes]
    binaries: dict[str, str]


def run_drill(
    scenario: str, *, hosts: int, out: Path | None, keep: bool, sabotage: str | None, report: Report
) -> Scorecard:
    """Run one drill from nothing to nothing.

    out: where the throw-away installation goes (kept there); a temporary folder otherwise. keep: leave everything up.
    Raises UsageError for an unknown scenario, IrflowError when a part does not come up.
    """
    if scenario not in SCENARIOS:
        raise UsageError(f"no scenario {scenario!r}", hint=f"There is {', '.join(SCENARIOS)}")
    started = time.monotonic()
    with ExitStack() as cleanup:
        home = _home(cleanup, out, keep)
        scene = _raise_scene(cleanup, home, hosts, sabotage, report)
        card = _play(scene, scenario, sabotage, started, report)
        if keep:
            cleanup.pop_all()
            scene.stack.detach()
            report(f"left up: irflow --home {home} incidents list; {scene.stack.web_url}; {scene.stack.prefect_ui}")
            report(f"take it down: irflow --home {home} lab down --stack")
    return card


def _home(cleanup: ExitStack, out: Path | None, keep: bool) -> Path:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="drill-", dir=out)) if any(out.iterdir()) else out.absolute()
    if keep:
        return Path(tempfile.mkdtemp(prefix="irflow-drill-"))
    return Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="irflow-drill-")))


def _raise_scene(cleanup: ExitStack, home: Path, hosts: int, sabotage: str | None, report: Report) -> _Scene:
    """Lab, installation, stack, baseline, attack; torn down in reverse."""
    lab = cleanup.enter_context(Lab.up(hosts + 1, home / "lab"))
    report(f"lab: {hosts + 1} hosts, level {lab.level.value}")
    installation = install(home, lab, sabotage=sabotage)
    config = load(home)
    stack = cleanup.enter_context(start_stack(config.settings, report=report))
    store = cleanup.enter_context(open_store(config.settings))
    victims, bystander = list(lab.hosts[:hosts]), lab.hosts[hosts]
    names = ",".join(host.name for host in victims)
    run_command(
        installation,
        "run",
        "baseline",
        "--param",
        f"hosts={names}",
        "--local",
        "--yes",
        "--as",
        installation.operators[0],
    )
    report("baseline taken")
    rulesets = {host.name: checks.ruleset(lab, host) for host in victims}
    attacks = [cleanup.enter_context(stage(lab, host)) for host in victims]
    binaries = {attack.host.name: checks.binary_hash(lab, attack) for attack in attacks}
    report(f"attack staged on {names}: SSH session, beacon from a deleted binary, changed files")
    return _Scene(lab, stack, store, installation, attacks, bystander, rulesets, binaries)


def _play(scene: _Scene, scenario: str, sabotage: str | None, started: float, report: Report) -> Scorecard:
    probes = [probe for one in scene.attacks for probe in checks.attack_probes(scene.lab, one, scene.bystander)]
    before = checks.ask(probes)
    victims = [one.host.name for one in scene.attacks]
    sent_at = datetime.now(UTC)
    reply = send(scene.stack.web_url, scene.installation, victims, title="Beacon from a deleted binary")
    incident_id = reply["alerts"][0]["incident_id"]
    incident = scene.store.find_incident(incident_id)
    if incident is None:
        raise CheckFailed(f"the incident {incident_id} that web named is not in the journal")
    report(f"alert accepted: {incident.number}")
    people = _operators(scene, incident)
    contained = _wait_contained(scene.store, incident.id, victims, report, sent_at)
    results = checks.score(probes, before, checks.ask(probes))
    if not all(one.passed for one in results):
        contained = None  # claimed, but not so
    problems = _answer_everything(people, report)
    status = fold(scene.store.events(incident.id))
    results += [*_released(scene), *_evidence(scene, status), *problems]
    verified = all(one.intact for one in verify_journals(load(scene.installation.home).settings, None))
    return Scorecard(
        scenario=scenario,
        level=scene.lab.level.value,
        incident=incident.number,
        hosts=len(victims),
        phases=phase_scores(status, datetime.now(UTC)),
        checks=tuple(results),
        time_to_contain_s=contained,
        documents=_documents(scene, status),
        journal_verified=verified,
        seconds=time.monotonic() - started,
        processes=tuple((name, pss) for name, _, pss in memory_table(scene.stack.pids())),
        sabotage=sabotage,
    )


def _operators(scene: _Scene, incident: Incident) -> ScriptedOperators:
    def eradicate() -> None:
        for attack in scene.attacks:
            attack.clean()

    return ScriptedOperators(
        scene.installation, scene.store, incident.id, incident.number, before_answer={"eradicate": eradicate}
    )


def _wait_contained(store: Store, incident: str, victims: list[str], report: Report, sent_at: datetime) -> float | None:
    """Seconds from the request's arrival to the last proven isolation; None when that did not come in time."""
    deadline = time.monotonic() + CONTAIN_WITHIN_S
    pause = threading.Event()
    while time.monotonic() < deadline:
        events = store.events(incident)
        proven = {
            event.target: event.at
            for event in events
            if event.kind == Kind.STEP_OUTCOME
            and event.data.get("leases")
            and event.data["outcome"] in ("done", "noop")
        }
        if set(victims) <= set(proven):
            seconds = (from_text(max(proven.values())) - sent_at).total_seconds()
            report(f"contained {len(victims)} host(s) in {seconds:.2f} s")
            return seconds
        if any(event.kind == Kind.PHASE_BLOCKED for event in events):
            break
        pause.wait(0.05)
    report("not contained")
    return None


def _answer_everything(people: ScriptedOperators, report: Report) -> list[CheckScore]:
    """Let the operators take the incident to its end; a way that does not get there is a failed check."""
    try:
        people.serve(CLOSE_WITHIN_S)
    except IrflowError as error:
        report(str(error))
        return [CheckScore(name="incident closed", before="open", after=str(error), passed=False)]
    for command in people.commands:
        report(f"operator: {command}")
    return [CheckScore(name="incident closed", before="open", after="closed", passed=True)]


def _released(scene: _Scene) -> list[CheckScore]:
    probes = [
        probe
        for attack in scene.attacks
        for probe in checks.release_probes(scene.lab, attack.host, scene.rulesets[attack.host.name])
    ]
    return checks.score(probes, [True] * len(probes), checks.ask(probes))


def _evidence(scene: _Scene, status: IncidentStatus) -> list[CheckScore]:
    """The evidence is there for every host and profile, unchanged, and holds the attacker's deleted binary."""
    folder = scene.installation.home / "evidence"
    scores = []
    for attack in scene.attacks:
        items = [one for one in status.evidence if one["where"] == attack.host.name]
        profiles = {one["profile"] for one in items}
        same = all(hashlib.sha256((folder / one["path"]).read_bytes()).hexdigest() == one["sha256"] for one in items)
        held = any(
            scene.binaries[attack.host.name] in text
            for one in items
            for text in (checks.evidence_text(folder / one["path"]),)
        )
        scores.append(
            CheckScore(
                name=f"evidence from {attack.host.name}",
                before="none",
                after=f"{', '.join(sorted(profiles)) or 'none'}; {'unchanged' if same else 'CHANGED'}; "
                f"deleted binary {'found' if held else 'NOT found'}",
                passed={"snapshot", "volatile"} <= profiles and same and held,
            )
        )
    return scores


def _documents(scene: _Scene, status: IncidentStatus) -> tuple[DocumentScore, ...]:
    folder = scene.installation.home / "documents"
    found = []
    for one in status.documents:
        sha256 = hashlib.sha256((folder / one["path"]).read_bytes()).hexdigest()
        if sha256 != one["sha256"]:
            raise CheckFailed("the document is not the one that was journalled", where=one["path"])
        found.append(DocumentScore(name=one["name"], path=one["path"], sha256=sha256))
    return tuple(found)
