"""The flows `runbooks` and `playbooks`: each of their deployments is one YAML, started by a person from its form.

Of a deployment only its name counts, and only to be looked up in the catalog. The form is read and checked anew here,
and what it says counts once the operator's one-time code was accepted. What a flow run has begun it finds again by its
own id, so being suspended, retried, forced or crashed starts nothing twice and asks for no second code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from ulid import ULID

from irflow.core.approvals import Operator
from irflow.core.arguments import arguments_of
from irflow.core.errors import IrflowError, Refused, UsageError
from irflow.core.incident import Incident
from irflow.core.model import Json
from irflow.core.orders import Order, arguments_in, order_of, report_of
from irflow.core.playbook import Phase
from irflow.core.proving import METHOD
from irflow.flows.executor import MOST_THREADS
from irflow.flows.installation import configuration
from irflow.flows.names import PLAYBOOKS, RUNBOOKS
from irflow.flows.naming import name_run
from irflow.flows.phases import run_phase
from irflow.flows.plain import plain
from irflow.manual_run import begin, begun, open_reported, prepare
from irflow.supervisor.stack import web_url
from irflow.wiring import Runtime, open_runtime
from irflow.wiring.identity import identities

log = logging.getLogger(__name__)

Form = dict[str, Any]
"""What the flow run's parameters are, whatever they are."""


def own_id(flow_run: str) -> str:
    """The ULID of the incident that a flow run opens: the same number as its UUID, so each opens one at most."""
    return str(ULID.from_bytes(UUID(flow_run).bytes))


def key_of(flow_run: str) -> str:
    """What the journal knows a run by that a flow run began."""
    return f"flow-run/{flow_run}"


@dataclass(frozen=True)
class _Start:
    """One flow run at its beginning."""

    wired: Runtime
    flow_run: str
    form: Mapping[str, Json]

    def begun(self) -> tuple[Incident, str] | None:
        """The incident and the name of the run that was put in force for this flow run; None at its beginning."""
        key = key_of(self.flow_run)
        for incident in (own_id(self.flow_run), self.form.get("incident")):
            if isinstance(incident, str) and incident and (found := begun(self.wired.store, incident, key)):
                return found[0], found[1].phase
        return None

    def prove(self, order: Order, flow_name: str, name: str) -> Operator:
        """Who filled in the form. Raises Refused."""
        who = identities(self.wired.configuration, self.wired.store)
        return who.prove(order.operator, order.code, for_=f"{flow_name}/{name} by {key_of(self.flow_run)}")


def _runner() -> Any:  # Prefect's own annotations do not fit together here
    return ThreadPoolTaskRunner(max_workers=MOST_THREADS)


@flow(name=RUNBOOKS, retries=0, persist_result=False, task_runner=_runner())
def runbooks(form: Form) -> State[Any]:
    """Start the runbook that the deployment is named after, from its form, and run it."""
    try:
        with open_runtime(configuration(), process="flow") as wired:
            incident, phase = _begin(_Start(wired, _this(), form))
    except IrflowError as error:
        log.error("%s", error)
        return Failed(message=plain(error))
    return run_phase(incident.id, phase)


@flow(name=PLAYBOOKS, retries=0, persist_result=False)
def playbooks(form: Form) -> State[Any]:
    """Open an incident with the playbook that the deployment is named after; the responder starts its phases."""
    try:
        with open_runtime(configuration(), process="flow") as wired:
            incident = _open(_Start(wired, _this(), form))
            name_run(incident, str(incident.playbook))
            return Completed(message=_opened(wired, incident))
    except IrflowError as error:
        log.error("%s", error)
        return Failed(message=plain(error))


def _begin(start: _Start) -> tuple[Incident, str]:
    """The incident and the name of the run that this flow run stands for; put in force now if it was not yet."""
    wired, key, new = start.wired, key_of(start.flow_run), own_id(start.flow_run)
    if earlier := start.begun():
        return earlier
    catalog, name = wired.configuration.catalog, _deployment()
    runbook, order = catalog.runbooks.get(name), order_of(start.form)
    if runbook is None:
        raise _unknown("runbook", name)
    arguments = arguments_in(start.form, runbook)
    arguments_of(runbook, arguments, catalog.inventory)  # before the code is used up: a mistake costs no second one
    try:
        operator = start.prove(order, RUNBOOKS, name)
    except Refused:
        if earlier := start.begun():  # by another process for the same flow run, with this code
            return earlier
        raise
    found, plan = prepare(wired, operator, name, arguments, order.incident or None, mode=order.mode, new_id=new)
    found, plan = begin(
        wired, operator, found, plan, arguments,
        approve=False, to_prefect=False, method=METHOD, reason=order.reason, key=key,
    )  # fmt: skip
    return found, plan.phase


def _open(start: _Start) -> Incident:
    """The incident that this flow run stands for; opened now if it was not yet."""
    wired, new = start.wired, own_id(start.flow_run)
    if earlier := wired.store.find_incident(new):
        return earlier
    catalog = wired.configuration.catalog
    name, order = _deployment(), order_of(start.form)
    playbook = catalog.playbooks.get(name)
    if playbook is None:
        raise _unknown("playbook", name)
    report = report_of(start.form, playbook, catalog.runbooks, catalog.inventory)
    try:
        operator = start.prove(order, PLAYBOOKS, name)
    except Refused:
        if earlier := wired.store.find_incident(new):
            return earlier
        raise
    return open_reported(wired, operator, name, report, id_=new, mode=order.mode, reason=order.reason)


def _opened(wired: Runtime, incident: Incident) -> str:
    playbook = wired.configuration.catalog.playbooks.get(incident.playbook or "")
    due = [phase.value for phase in (Phase.CONTAINMENT, Phase.DETECTION) if playbook and phase in playbook.phases]
    way = f"{' and '.join(due)} {'is on its' if len(due) == 1 else 'are on their'} way" if due else "no phase is due"
    return f"{incident.number} opened; {way}: {web_url(wired.settings)}/incidents/{incident.number}"


def _this() -> str:
    """This flow run's id. Raises UsageError outside of one."""
    if runtime.flow_run.id is None:
        raise UsageError("this flow runs in irflow's worker alone", hint="Start it in Prefect, or: irflow run RUNBOOK")
    return str(UUID(runtime.flow_run.id))


def _deployment() -> str:
    """The name of the deployment that this run was started from."""
    if not isinstance(name := runtime.deployment.name, str):
        raise Refused("this run has no deployment that would say what to start", hint="Start it from a deployment")
    return name


def _unknown(kind: str, name: str) -> Refused:
    return Refused(f"there is no {kind} {plain(name, 80)!r}", hint=f"Its YAML stands in HOME/{kind}s; see irflow check")
