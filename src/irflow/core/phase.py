"""One phase: freeze its plan, run its steps as their dependencies allow, record how it stands."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from irflow.core.engine import Engine, question_message
from irflow.core.errors import ConfigurationError, IrflowError, Refused
from irflow.core.guards import touched_by
from irflow.core.journal import Draft, Kind
from irflow.core.mode import Mode
from irflow.core.model import Json
from irflow.core.outcome import StepResult
from irflow.core.plan import Plan, PlanStep
from irflow.core.planner import Catalog, plan_phase
from irflow.core.playbook import Phase
from irflow.core.ports import Executor, Run, Transaction
from irflow.core.progress import blocking, ended, over
from irflow.core.status import IncidentStatus, State, fold


@dataclass(frozen=True)
class PhaseResult:
    """How a phase stands after a run. state: `ended`, `awaiting_approval`, `blocked` or `unfinished`."""

    phase: str
    state: str
    steps: Mapping[str, StepResult]

    @property
    def open_items(self) -> tuple[str, ...]:
        """One line per step that is not over."""
        return tuple(
            f"{key}: {result.state.value}" + (f" ({result.detail})" if result.detail else "")
            for key, result in self.steps.items()
            if not result.passable
        )


def execute(engine: Engine, incident: str, phase: str, executor: Executor, *, run_id: str, kind: str) -> PhaseResult:
    """Run a phase as far as it goes without a person. Any number of processes may do so at the same time.

    phase: one of the four, or `run-N` for a runbook by itself, whose plan is already in force.
    run_id: unique for this run. kind: `threads` or `prefect`. Raises Refused when the incident has no playbook,
    ConfigurationError when the plan cannot be made.
    """
    now = engine.ports.clock.now()
    run = Run(run_id, incident, phase, kind, engine.owner, now, now, None)

    def begin(tx: Transaction) -> Plan:
        plan = ensure_plan(engine, tx, incident, phase)
        tx.begin_run(run)
        data: dict[str, Json] = {"phase": phase, "run": run_id, "executor": kind}
        tx.append(incident, Draft(Kind.RUN_STARTED, engine.actor, data))
        return plan

    try:
        plan = engine.ports.store.transact(begin)
    except (ConfigurationError, Refused) as error:
        _unplannable(engine, incident, phase, error)
        raise
    try:
        return run_plan(engine, plan, executor)
    finally:
        engine.ports.store.transact(lambda tx: tx.end_run(run_id))


def _unplannable(engine: Engine, incident: str, phase: str, error: IrflowError) -> None:
    """Record once that a phase cannot even be planned; a person must change something."""

    def work(tx: Transaction) -> None:
        known = fold(tx.events(incident)).phases.get(phase)
        if known is None or not known.blocked:
            data: dict[str, Json] = {"phase": phase, "steps": [], "error": str(error)}
            tx.append(incident, Draft(Kind.PHASE_BLOCKED, engine.actor, data))

    engine.ports.store.transact(work)


def ensure_plan(engine: Engine, tx: Transaction, incident: str, phase: str) -> Plan:
    """The plan in force; made and journalled now if there is none, or if a target was added since.

    Raises Refused or ConfigurationError.
    """
    status = fold(tx.events(incident))
    known = status.phases.get(phase)
    if known is not None and known.plan is not None and (not known.stale or phase not in list(Phase)):
        return known.plan
    plan = next_plan(engine.catalog, status, phase)
    record_plan(engine, tx, plan)
    return plan


def next_plan(catalog: Catalog, status: IncidentStatus, phase: str) -> Plan:
    """The plan that a phase would get now. Raises Refused or ConfigurationError."""
    if phase not in list(Phase):
        raise Refused(f"{status.incident.number} has no plan for {phase}", hint="Make one: irflow run RUNBOOK")
    name = status.incident.playbook
    playbook = catalog.playbooks.get(name) if name else None
    if playbook is None:
        raise Refused(
            f"{status.incident.number} has no playbook for type {status.incident.type}",
            hint="Run a runbook by hand: irflow run RUNBOOK",
        )
    before = status.plan(phase)
    return plan_phase(
        catalog, status.incident, playbook, Phase(phase), revision=(before.revision if before else 0) + 1,
        results=results(status), touched=touched_by(status, catalog.actions),
    )  # fmt: skip


def plans(catalog: Catalog, status: IncidentStatus) -> tuple[Plan, ...]:
    """Every plan of an incident: those in force, and what phases without one, or with an outdated one, would get."""
    found = [known.plan for known in status.phases.values() if known.plan and not known.stale]
    playbook = catalog.playbooks.get(status.incident.playbook or "")
    for phase in playbook.phases if playbook and status.open else ():
        known = status.phases.get(phase)
        if known is None or known.plan is None or known.stale:
            found.append(next_plan(catalog, status, phase))
    return tuple(found)


def record_plan(engine: Engine, tx: Transaction, plan: Plan) -> None:
    """Put a plan in force."""
    data: dict[str, Json] = {"phase": plan.phase, "digest": plan.digest, "plan": plan.model_dump(mode="json")}
    tx.append(
        plan.incident,
        Draft(Kind.PHASE_PLANNED, engine.actor, data),
        Draft(Kind.PHASE_STARTED, engine.actor, {"phase": plan.phase}),
    )


def results(status: IncidentStatus) -> dict[str, Json]:
    """Facts of finished steps by `runbook.step@target`, for the expressions of later phases."""
    return {key.partition("/")[2]: step.outcome.get("facts", {}) for key, step in status.steps.items() if step.outcome}


def run_plan(engine: Engine, plan: Plan, executor: Executor) -> PhaseResult:
    """Run the steps of a plan in force as their dependencies allow; independent steps run in parallel."""
    by_key = {step.key: step for step in plan.steps}
    waiting = dict(by_key)
    results_: dict[str, StepResult] = {}
    running: dict[Future[StepResult], PlanStep] = {}
    while True:
        for step in [one for one in waiting.values() if _free(one, by_key, results_)]:
            del waiting[step.key]
            running[executor.submit(step, lambda one: engine.run_step(plan, one))] = step
        if not running:
            break
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            step = running.pop(future)
            try:
                results_[step.key] = future.result()
            except IrflowError as error:  # the journal itself failed: the step stays as it stands, the others go on
                results_[step.key] = StepResult(step.key, State.PENDING, str(error))
    return _finish(engine, plan, results_)


def _free(step: PlanStep, by_key: Mapping[str, PlanStep], done: Mapping[str, StepResult]) -> bool:
    return all(key in done and over(by_key[key], done[key].state) for key in step.after)


def _finish(engine: Engine, plan: Plan, done: dict[str, StepResult]) -> PhaseResult:
    """Record the end of the phase, or that it is blocked; a phase ends once, whoever comes first."""

    def work(tx: Transaction) -> tuple[str, IncidentStatus]:
        status = fold(tx.events(plan.incident))
        known = status.phases[plan.phase]
        if known.plan is None or known.plan.digest != plan.digest:
            return "unfinished", status
        if known.ended_at is not None:
            return "ended", status
        outcome = ended(status, plan)
        if outcome is not None:
            tx.append(plan.incident, Draft(Kind.PHASE_ENDED, engine.actor, {"phase": plan.phase, "outcome": outcome}))
            return "ended", status
        if not status.open:
            return "unfinished", status
        if plan.mode is Mode.STEP and not known.aborted_by:
            status = _ask_about_failed(engine, tx, plan, status)
        standing = [status.step(step.key) for step in plan.steps]
        if any(step.state is State.AWAITING or step.short_s is not None for step in standing):
            return "awaiting_approval", status
        stuck = blocking(status, plan)
        if stuck and not known.blocked:
            data: dict[str, Json] = {"phase": plan.phase, "steps": list(stuck)}
            tx.append(plan.incident, Draft(Kind.PHASE_BLOCKED, engine.actor, data))
        return ("blocked" if stuck else "unfinished"), status

    state, status = engine.ports.store.transact(work)
    for step in plan.steps:
        done.setdefault(step.key, StepResult(step.key, status.step(step.key).state))
    return PhaseResult(plan.phase, state, done)


def _ask_about_failed(engine: Engine, tx: Transaction, plan: Plan, status: IncidentStatus) -> IncidentStatus:
    """Step by step, a failure is the next thing that a person decides about, instead of the end of the run."""
    for key in blocking(status, plan):
        step, known = plan.step(key), status.step(key)
        if known.state in (State.FAILED, State.UNKNOWN):
            data: dict[str, Json] = {
                "phase": plan.phase, "digest": plan.digest, "role": step.role, "people": step.people,
                "reasons": list(step.reasons), "title": step.title, "manual": step.manual, "failed": True,
                "would": list(known.would),
            }  # fmt: skip
            tx.append(plan.incident, Draft(Kind.PERSON_ASKED, engine.actor, data, key, step.target))
            tx.enqueue("notify", question_message(status, plan, step))
    return fold(tx.events(plan.incident))
