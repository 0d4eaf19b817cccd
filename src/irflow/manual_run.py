"""Runs that a person starts by hand: one runbook by itself, or an alert from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.adapters.wake import wake
from irflow.core import decisions
from irflow.core.alert import Trust
from irflow.core.approvals import Operator
from irflow.core.errors import Refused, UsageError
from irflow.core.guards import touched_by
from irflow.core.identity import Deed, require
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.phase import PhaseResult, execute, record_plan
from irflow.core.plan import Plan
from irflow.core.planner import plan_runbook
from irflow.core.ports import Transaction
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus, State, fold
from irflow.intake import standard
from irflow.intake.accept import Request, accept
from irflow.intake.refusal import NotUnderstood
from irflow.intake.source import Auth, Source
from irflow.wiring import Runtime


@dataclass(frozen=True)
class RunResult(PhaseResult):
    """A phase result with the exit code that the command line gives for it."""

    @property
    def exit_code(self) -> int:
        """0 ended; 3 waits for a person; 5 an outcome is unknown; 4 some failed; 1 all failed (DESIGN section 6)."""
        states = [one.state for one in self.steps.values()]
        if State.UNKNOWN in states:
            return 5
        failed = [state for state in states if state in (State.FAILED, State.REFUSED)]
        if failed:
            return 1 if len(failed) == len(states) else 4
        return {"ended": 0, "awaiting_approval": 3}.get(self.state, 3)


def prepare(
    wired: Runtime, operator: Operator, runbook: str, arguments: Mapping[str, Json], incident: str | None,
    *, phase: str = "run-1",
) -> tuple[Incident, Plan]:  # fmt: skip
    """The plan that a run would follow; nothing is written. phase: its name in an incident of its own.

    Raises like planner.plan_runbook.
    """
    store = wired.engine.ports.store
    if incident is None:
        now = wired.engine.ports.clock.now()
        found = Incident(
            id=str(ULID()),
            type="manual",
            severity=Severity.HIGH,
            trust=Trust.VERIFIED,
            title=f"{runbook} run by {operator.name}",
            detected_at=now,
        )
        named = found.model_copy(update={"number": "a new incident"})  # texts may say it; `begin` plans with its own
        return found, plan_runbook(wired.engine.catalog, named, runbook, arguments, phase=phase)
    known = store.find_incident(incident)
    if known is None:
        raise UsageError(f"no incident {incident}", hint="List them: irflow incidents list")
    status = fold(store.events(known.id))
    if not status.open:
        raise Refused(f"{known.number} is closed")
    return status.incident, _plan(wired, status, runbook, arguments)


def _plan(wired: Runtime, status: IncidentStatus, runbook: str, arguments: Mapping[str, Json]) -> Plan:
    """The plan of a runbook as the next `run-N` of an incident that is under way."""
    catalog = wired.engine.catalog
    number = 1 + sum(1 for name in status.phases if name.startswith("run-"))
    touched = touched_by(status, catalog.actions)
    return plan_runbook(catalog, status.incident, runbook, arguments, phase=f"run-{number}", touched=touched)


def begin(
    wired: Runtime,
    operator: Operator,
    incident: Incident,
    plan: Plan,
    arguments: Mapping[str, Json],
    *,
    approve: bool,
    to_prefect: bool,
    number: str = "",
    method: str = "os-account",
) -> tuple[Incident, Plan]:
    """Put the plan in force, under a new incident where it has none yet; approve it in the operator's own role.

    A new incident gets its number only now, so its plan is made once more: texts may name it. So is the plan of a run
    whose number another run has taken meanwhile. number: of a new incident; empty for the journal's next one. method:
    how the operator proved who it is. Raises Refused when it may not start runs.
    """
    require(operator, Deed.RUN)

    def work(tx: Transaction) -> tuple[Incident, Plan]:
        found, exact = incident, plan
        if not incident.number:
            hosts = tuple(dict.fromkeys(step.target for step in plan.steps if step.target))
            found = tx.open_incident(
                incident.model_copy(update={"hosts": hosts, "number": number}), f"operator:{operator.name}"
            )
            exact = plan_runbook(wired.engine.catalog, found, plan.steps[0].runbook, arguments, phase=plan.phase)
        elif exact.phase in (status := fold(tx.events(found.id))).phases:  # somebody else was faster by a moment
            exact = _plan(wired, status, plan.steps[0].runbook, arguments)
        record_plan(wired.engine, tx, exact)
        if approve and exact.people:
            decisions.decide(tx, found.id, operator, method=method, digest=exact.digest, yes=True)
        if to_prefect:
            data: dict[str, Json] = {"phase": exact.phase, "key": f"{found.id}/{exact.phase}/{exact.digest[:12]}"}
            tx.append(found.id, Draft(Kind.RUN_REQUESTED, wired.engine.actor, data))
            tx.enqueue("flow", {"incident": found.id, **data})
        return found, exact

    found, exact = wired.engine.ports.store.transact(work)
    wake(wired.settings.responder_socket)
    return found, exact


def run_here(wired: Runtime, incident: Incident, plan: Plan) -> RunResult:
    """Run the plan in this process, without Prefect."""
    with ThreadExecutor() as executor:
        result = execute(wired.engine, incident.id, plan.phase, executor, run_id=str(ULID()), kind="threads")
    return RunResult(result.phase, result.state, result.steps)


def accept_file(wired: Runtime, operator: Operator, path: Path) -> Json:
    """Open or join incidents from the JSON body of an alert, as `POST /webhooks/...` would; the operator vouches.

    Returns the reply a sender would get. Raises UsageError when the file is not understood, Refused when the operator
    may not open incidents.
    """
    require(operator, Deed.OPEN)
    source = Source(name="by-hand", kind="standard", auth=Auth.NONE)
    body = path.read_bytes()
    now = wired.engine.ports.clock.now()
    request = Request(source, f"{operator.name}:{ULID()}", body, now, Trust.VERIFIED)
    try:
        parcel = standard.read(source, body)
    except NotUnderstood as error:
        raise UsageError(str(error), where=str(path), hint="See docs/alerts.md") from None
    catalog = wired.engine.catalog
    receipt = wired.store.transact(
        lambda tx: accept(tx, request, parcel, catalog.inventory, tuple(catalog.playbooks.values()))
    )
    wake(wired.settings.responder_socket)
    return receipt.response
