"""Runs that a person starts by hand: one runbook by itself, or an alert from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from irflow.core.journal import Draft, Event, Kind
from irflow.core.mode import Mode
from irflow.core.model import Json
from irflow.core.orders import Report
from irflow.core.phase import PhaseResult, execute, record_plan
from irflow.core.plan import Plan
from irflow.core.planner import plan_runbook
from irflow.core.ports import Run, Store, Transaction
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
    *, phase: str = "run-1", mode: Mode = Mode.AUTOMATIC, new_id: str = "",
) -> tuple[Incident, Plan]:  # fmt: skip
    """The plan that a run would follow; nothing is written. phase: its name in an incident of its own.

    new_id: of that incident, where it must be the same each time. Raises like planner.plan_runbook.
    """
    store = wired.engine.ports.store
    if incident is None:
        now = wired.engine.ports.clock.now()
        found = Incident(
            id=new_id or str(ULID()),
            type="manual",
            severity=Severity.HIGH,
            trust=Trust.VERIFIED,
            title=f"{runbook} run by {operator.name}",
            detected_at=now,
        )
        named = found.model_copy(update={"number": "a new incident"})  # texts may say it; `begin` plans with its own
        return found, plan_runbook(wired.engine.catalog, named, runbook, arguments, phase=phase, mode=mode)
    known = store.find_incident(incident)
    if known is None:
        raise UsageError(f"no incident {incident}", hint="List them: irflow incidents list")
    status = fold(store.events(known.id))
    if not status.open:
        raise Refused(f"{known.number} is closed")
    return status.incident, _plan(wired, status, runbook, arguments, mode)


def _plan(wired: Runtime, status: IncidentStatus, runbook: str, arguments: Mapping[str, Json], mode: Mode) -> Plan:
    """The plan of a runbook as the next `run-N` of an incident that is under way."""
    catalog = wired.engine.catalog
    number = 1 + sum(1 for name in status.phases if name.startswith("run-"))
    touched = touched_by(status, catalog.actions)
    return plan_runbook(catalog, status.incident, runbook, arguments, phase=f"run-{number}", touched=touched, mode=mode)


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
    reason: str = "",
    key: str = "",
) -> tuple[Incident, Plan]:
    """Put the plan in force, under a new incident where it has none yet; approve it in the operator's own role.

    number: of a new incident; empty for the journal's next one. method: how the operator proved who it is. reason: goes
    on record. key: names what asked for it and runs it itself (`flow-run/UUID`); what was begun for it already is
    returned as it is. Raises Refused when the operator may not start runs.
    """
    require(operator, Deed.RUN)
    if not plan.steps:
        raise UsageError("there is nothing to do: the runbook has no step for what was given", hint="Name a target")

    def work(tx: Transaction) -> tuple[Incident, Plan]:
        if key and (earlier := _begun(tx.events(incident.id), key)):
            return earlier
        found, exact = _in_turn(wired, tx, operator, incident, plan, arguments, number)
        record_plan(wired.engine, tx, exact)
        if reason:
            _give_reason(tx, operator, found, f"{exact.steps[0].runbook} ({exact.phase}, {exact.mode}): {reason}")
        if approve and exact.people:
            decisions.decide(tx, found.id, operator, method=method, digest=exact.digest, yes=True, here=True)
        if key or to_prefect:
            _ask_for_run(tx, wired.engine.actor, exact, key)
        return found, exact

    found, exact = wired.engine.ports.store.transact(work)
    wake(wired.settings.responder_socket)
    return found, exact


def _ask_for_run(tx: Transaction, actor: str, plan: Plan, key: str) -> None:
    """Record that a run is wanted, and have one made where nobody runs it already."""
    name = key or f"{plan.incident}/{plan.phase}/{plan.digest[:12]}"
    data: dict[str, Json] = {"phase": plan.phase, "key": name}
    tx.append(plan.incident, Draft(Kind.RUN_REQUESTED, actor, data))
    if not key:
        tx.enqueue("flow", {"incident": plan.incident, **data})


def _in_turn(
    wired: Runtime, tx: Transaction, operator: Operator, incident: Incident, plan: Plan,
    arguments: Mapping[str, Json], number: str,
) -> tuple[Incident, Plan]:  # fmt: skip
    """The incident, opened where it has no number yet, and the plan as it is now that nobody else can write.

    A new incident gets its number only now, so its plan is made once more: texts may name it. So is the plan of a run
    whose number another run has taken meanwhile.
    """
    runbook = plan.steps[0].runbook
    if not incident.number:
        hosts = tuple(dict.fromkeys(step.target for step in plan.steps if step.target))
        found = tx.open_incident(
            incident.model_copy(update={"hosts": hosts, "number": number}), f"operator:{operator.name}"
        )
        catalog = wired.engine.catalog
        return found, plan_runbook(catalog, found, runbook, arguments, phase=plan.phase, mode=plan.mode)
    if plan.phase in (status := fold(tx.events(incident.id))).phases:  # somebody else was faster by a moment
        return incident, _plan(wired, status, runbook, arguments, plan.mode)
    return incident, plan


def begun(store: Store, incident: str, key: str) -> tuple[Incident, Plan] | None:
    """The run that was put in force for this key. incident: ULID or number; None where there is no such run."""
    found = store.find_incident(incident)
    return _begun(store.events(found.id), key) if found else None


def _begun(events: list[Event], key: str) -> tuple[Incident, Plan] | None:
    asked = next((one for one in events if one.kind == Kind.RUN_REQUESTED and one.data.get("key") == key), None)
    if asked is None:
        return None
    status = fold(events)
    plan = status.plan(asked.data["phase"])
    return (status.incident, plan) if plan else None


def _give_reason(tx: Transaction, operator: Operator, incident: Incident, text: str) -> None:
    data: dict[str, Json] = {"text": text, "operator": operator.name}
    tx.append(incident.id, Draft(Kind.NOTE, f"operator:{operator.name}", data))


def open_reported(
    wired: Runtime, operator: Operator, playbook: str, report: Report, *, id_: str, mode: Mode, reason: str
) -> Incident:
    """Open an incident as a person reports it; the operator vouches, so it acts like one from a verified sender.

    id_: ULID; an incident that has it already is returned as it is. Its phases are started by the responder.
    Raises Refused when the operator may not open incidents.
    """
    require(operator, Deed.OPEN)
    wanted = Incident(
        id=id_, type=report.type, severity=report.severity, trust=Trust.VERIFIED, title=report.title,
        playbook=playbook, mode=mode, detected_at=wired.engine.ports.clock.now(), **report.targets,
    )  # fmt: skip

    def work(tx: Transaction) -> Incident:
        if events := tx.events(id_):
            return fold(events).incident
        opened = tx.open_incident(wanted, f"operator:{operator.name}")
        _give_reason(tx, operator, opened, f"{playbook} ({mode}): {reason}")
        tx.enqueue("respond", {"incident": opened.id})
        return opened

    found = wired.engine.ports.store.transact(work)
    wake(wired.settings.responder_socket)
    return found


def run_here(wired: Runtime, incident: Incident, plan: Plan) -> RunResult:
    """Run the plan in this process, without Prefect."""
    with ThreadExecutor() as executor:
        result = execute(wired.engine, incident.id, plan.phase, executor, run_id=str(ULID()), kind="threads")
    return RunResult(result.phase, result.state, result.steps)


@contextmanager
def at_terminal(wired: Runtime, incident: Incident, plan: Plan) -> Iterator[None]:
    """While it is open somebody goes through the run at a terminal; its heart beats with that of the process."""
    engine, id_ = wired.engine, f"terminal/{ULID()}"
    now = engine.ports.clock.now()
    run = Run(id_, incident.id, plan.phase, "terminal", engine.owner, now, now, None)
    wired.store.transact(lambda tx: tx.begin_run(run))
    try:
        yield
    finally:
        wired.store.transact(lambda tx: tx.end_run(id_))


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
