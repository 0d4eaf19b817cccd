"""The flows: one per phase of an incident, one for a runbook by itself. The journal is the truth; these drive it."""

from __future__ import annotations

from typing import Any

from prefect import Flow, flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from irflow.config import default_home
from irflow.core.errors import IrflowError, UsageError
from irflow.core.phase import PhaseResult, execute
from irflow.core.playbook import Phase
from irflow.flows.artifacts import leave_artifacts
from irflow.flows.executor import PrefectExecutor
from irflow.wiring import load, open_runtime

MOST_TASKS = 256
"""Waiting threads are cheap; the engine's slots decide how many hosts are worked on at once."""


def run_phase(incident: str, phase: str) -> State[Any]:
    """Run one phase of an incident as far as it goes without a person.

    Returns Completed, Completed named AwaitingApproval, or Failed naming what is open. A second run at the same time,
    a retried or a forced one adopts what is done or under way.
    """
    log = get_run_logger()
    with open_runtime(load(default_home()), process="flow") as wired:
        found = wired.store.find_incident(incident)
        if found is None:
            raise UsageError(f"no incident {incident}", hint="List them: irflow incidents list")
        executor = PrefectExecutor(found.id)
        try:
            result = execute(wired.engine, found.id, phase, executor, run_id=str(flow_run.id), kind="prefect")
        except IrflowError as error:
            log.error("%s", error)
            return Failed(message=str(error)[:1000])
        leave_artifacts(found.number, wired.engine.status(found.id), result)
    for line in result.open_items:
        log.info("open: %s", line)
    return _state(result)


def _state(result: PhaseResult) -> State[Any]:
    if result.state == "ended":
        return Completed(message=f"{result.phase} has ended")
    items = "; ".join(result.open_items)[:1000]
    if result.state == "awaiting_approval":
        return Completed(name="AwaitingApproval", message=items)
    return Failed(message=f"{result.state}: {items}")


def _settings(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "retries": 0,
        "persist_result": False,
        "task_runner": ThreadPoolTaskRunner(max_workers=MOST_TASKS),
    }


@flow(**_settings(Phase.DETECTION))
def detection(incident: str) -> State[Any]:
    """Detection: facts from the hosts, classify, tell the team, begin the document."""
    return run_phase(incident, Phase.DETECTION)


@flow(**_settings(Phase.CONTAINMENT))
def containment(incident: str) -> State[Any]:
    """Containment: snapshot, cut off, collect evidence; adopts what the first response has done."""
    return run_phase(incident, Phase.CONTAINMENT)


@flow(**_settings(Phase.RECOVERY))
def recovery(incident: str) -> State[Any]:
    """Recovery: check integrity, bring hosts back after a person's yes."""
    return run_phase(incident, Phase.RECOVERY)


@flow(**_settings(Phase.LESSONS_LEARNED))
def lessons_learned(incident: str) -> State[Any]:
    """Lessons learned: the review, from the journal."""
    return run_phase(incident, Phase.LESSONS_LEARNED)


@flow(**_settings("runbook"))
def runbook(incident: str, phase: str) -> State[Any]:
    """A runbook by itself: `irflow run RUNBOOK` has planned it as `run-N` of its incident."""
    return run_phase(incident, phase)


PHASE_FLOWS: tuple[Flow[Any, Any], ...] = (detection, containment, recovery, lessons_learned, runbook)
