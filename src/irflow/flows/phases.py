"""The flows of the four phases and of a runbook by itself; a run takes its phase as far as it goes without people."""

from __future__ import annotations

import logging
from typing import Annotated, Any
from uuid import UUID

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field
from ulid import ULID

from irflow.core.errors import IrflowError, UsageError
from irflow.core.incident import Incident
from irflow.core.phase import PhaseResult, execute
from irflow.core.playbook import Phase
from irflow.core.status import State as StepState
from irflow.flows.artifacts import publish
from irflow.flows.executor import MOST_THREADS, PrefectExecutor
from irflow.flows.forms import Forms
from irflow.flows.installation import configuration
from irflow.flows.naming import name_run
from irflow.flows.plain import plain
from irflow.supervisor.stack import web_url
from irflow.wiring import Runtime, open_runtime

log = logging.getLogger(__name__)

IncidentName = Annotated[
    str,
    Field(title="Incident", description="Its number (IR-2026-0001) or ULID.", pattern=r"^[A-Za-z0-9-]{4,40}$"),
]
RunPhase = Annotated[
    str, Field(title="Run", description="`run-N` as given by `irflow run`.", pattern=r"^run-[0-9]{1,6}$")
]

MOST_NAMED = 5
"""Open items named in a state's message; the artifacts have them all."""


MOST_ROUNDS = 3
"""A question may be answered between looking and asking; then the run goes on at once, at most so often."""


def _runner() -> Any:  # Prefect's own annotations do not fit together here
    return ThreadPoolTaskRunner(max_workers=MOST_THREADS)


def run_phase(incident: str, phase: str) -> State[Any]:
    """Run one phase of one incident and say how it stands. The journal decides what is left to do, not Prefect."""
    try:
        with open_runtime(configuration(), process="flow") as wired:
            found = wired.store.find_incident(incident)
            if found is None:
                raise UsageError(f"no incident {incident}", hint="List them: irflow incidents list")
            name_run(found, _called(wired, found, phase), phase)
            return _run(wired, found, phase)
    except IrflowError as error:
        log.error("%s", error)
        return Failed(message=plain(error))


def _run(wired: Runtime, incident: Incident, phase: str) -> State[Any]:
    """As far as it goes; then the run is suspended with a form, for as long as people take."""
    flow_run = runtime.flow_run.id
    forms = Forms(wired, incident, UUID(flow_run)) if flow_run else None
    if forms is not None:
        forms.take_answers()
    for _ in range(MOST_ROUNDS):
        with PrefectExecutor(incident.id) as executor:
            run_id = f"{flow_run or 'direct'}/{ULID()}"
            result = execute(wired.engine, incident.id, phase, executor, run_id=run_id, kind="prefect")
        url = f"{web_url(wired.settings)}/incidents/{incident.number}"
        publish(incident, wired.engine.status(incident.id).plan(phase), result, url)
        if result.state != "awaiting_approval" or forms is None or not forms.ask(phase):
            break
    return final_state(result)


def final_state(result: PhaseResult) -> State[Any]:
    """How the end of a run looks in Prefect."""
    if result.state == "ended":
        return Completed(message=f"{result.phase} has ended")
    if result.state == "awaiting_approval":
        asked = [key for key, one in result.steps.items() if one.state is StepState.AWAITING]
        return Completed(name="AwaitingApproval", message=_named("waiting for a person", asked))
    if result.state == "blocked":
        return Failed(message=_named("open", result.open_items))
    return Completed(name="Unfinished", message=_named("not finished by this run", result.open_items))


def _named(what: str, items: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""
    return f"{what}: " + "; ".join(plain(item, 160) for item in items[:MOST_NAMED]) + more


def _called(wired: Runtime, incident: Incident, phase: str) -> str:
    """What people call a run: by its phase; a runbook by itself by its name, and which it is where there are more."""
    plan = wired.engine.status(incident.id).plan(phase)
    if phase in list(Phase) or plan is None or not plan.steps:
        return phase
    return plan.steps[0].runbook if phase == "run-1" else f"{plan.steps[0].runbook} {phase}"


@flow(name=Phase.DETECTION.value, retries=0, persist_result=False, task_runner=_runner())
def detection(incident: IncidentName) -> State[Any]:
    """Look at the hosts, classify, tell the team, begin the document."""
    return run_phase(incident, Phase.DETECTION.value)


@flow(name=Phase.CONTAINMENT.value, retries=0, persist_result=False, task_runner=_runner())
def containment(incident: IncidentName) -> State[Any]:
    """Cut off what is compromised, and prove it. Adopts what the first response is doing or has done."""
    return run_phase(incident, Phase.CONTAINMENT.value)


@flow(name=Phase.RECOVERY.value, retries=0, persist_result=False, task_runner=_runner())
def recovery(incident: IncidentName) -> State[Any]:
    """Check integrity, and bring hosts back once a person has agreed."""
    return run_phase(incident, Phase.RECOVERY.value)


@flow(name=Phase.LESSONS_LEARNED.value, retries=0, persist_result=False, task_runner=_runner())
def lessons_learned(incident: IncidentName) -> State[Any]:
    """Write the review from the journal."""
    return run_phase(incident, Phase.LESSONS_LEARNED.value)


@flow(name="runbook", retries=0, persist_result=False, task_runner=_runner())
def runbook(incident: IncidentName, phase: RunPhase) -> State[Any]:
    """Run a runbook by itself, whose plan `irflow run` has put in force; Prefect alone can start nothing new."""
    return run_phase(incident, phase)
