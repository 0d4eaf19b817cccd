"""What each kind of event does to the status of an incident."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from irflow.core.incident import TARGETS, Incident
from irflow.core.joining import import_state
from irflow.core.journal import Event, Kind
from irflow.core.lease_folds import LEASE_FOLDS, end, end_of_step, grant
from irflow.core.plan import Approval, Plan, PlanStep
from irflow.core.states import FINISHED, TAKEN_BACK, IncidentStatus, PhaseStatus, State, StepStatus


def ignore(status: IncidentStatus, event: Event) -> None:
    """Events that change no status: they speak for themselves in the timeline."""


def _step(status: IncidentStatus, event: Event) -> StepStatus:
    step = status.steps.get(event.step)
    if step is None:
        step = status.steps[event.step] = StepStatus(event.step, event.target)
    return step


def _phase(status: IncidentStatus, name: str) -> PhaseStatus:
    return status.phases.setdefault(name, PhaseStatus(name))


def _planned(status: IncidentStatus, event: Event) -> None:
    plan = Plan.model_validate(event.data["plan"])
    phase = _phase(status, plan.phase)
    before = {step.key: step for step in phase.plan.steps} if phase.plan else {}
    phase.plan, phase.blocked, phase.ended_at, phase.outcome = plan, False, None, ""
    phase.stale, phase.fruitless, phase.escalated = False, 0, False
    for step in plan.steps:
        known = status.steps.setdefault(step.key, StepStatus(step.key, step.target))
        if known.state is State.AWAITING or (known.state in _ONCE and _differs(before.get(step.key), step)):
            known.state = State.PENDING
        known.planned = step
        if known.state is State.PENDING:
            known.short_s = None


_ONCE = (FINISHED - TAKEN_BACK) | {State.FAILED, State.REFUSED}


def _differs(before: PlanStep | None, now: PlanStep) -> bool:
    """Whether a new plan asks something else of a step that is over, as when an address was added to a block."""
    return before is not None and (before.params, before.manual) != (now.params, now.manual)


def _phase_started(status: IncidentStatus, event: Event) -> None:
    phase = _phase(status, event.data["phase"])
    phase.started_at = phase.started_at or event.moment


def _phase_ended(status: IncidentStatus, event: Event) -> None:
    phase = _phase(status, event.data["phase"])
    phase.ended_at, phase.outcome, phase.blocked = event.moment, event.data["outcome"], False
    phase.ended_seq = event.seq
    _close_wait(phase, event.moment)


def _phase_blocked(status: IncidentStatus, event: Event) -> None:
    _phase(status, event.data["phase"]).blocked = True


def _run_requested(status: IncidentStatus, event: Event) -> None:
    phase = _phase(status, event.data["phase"])
    phase.fruitless += 1
    phase.requested_at = event.moment


def _escalated(status: IncidentStatus, event: Event) -> None:
    if event.data.get("phase"):
        _phase(status, event.data["phase"]).escalated = True
    if event.data.get("severity"):
        status.incident = Incident.model_validate({**status.incident.to_data(), "severity": event.data["severity"]})
        for phase in status.phases.values():
            _outdate(phase)


def _outdate(phase: PhaseStatus) -> None:
    """What a playbook plans is planned anew; what a person asked for stays what it is."""
    phase.stale = phase.plan is not None and phase.plan.playbook is not None


def fruit(status: IncidentStatus, key: str) -> None:
    """Something happened in the phase of a step, so trying again may bear fruit."""
    phase = status.phases.get(key.partition("/")[0])
    if phase is not None:
        phase.fruitless, phase.escalated = 0, False


def _close_wait(phase: PhaseStatus, at: datetime) -> None:
    if phase.waiting_since is not None:
        phase.waits.append((phase.waiting_since, at))
        phase.waiting_since = None


def _asked(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.asked_at, step.asked_seq = State.AWAITING, event.moment, event.seq
    step.would, step.failed = tuple(event.data.get("would", ())), event.data.get("failed", False)
    step.proceeds, step.cleared_for = (), ""
    phase = _phase(status, event.data["phase"])
    if phase.waiting_since is None:
        phase.waiting_since = event.moment


def _answered(status: IncidentStatus, phase: PhaseStatus, at: datetime) -> None:
    """Close the phase's wait once nothing in it waits for a person any more."""
    keys = [step.key for step in phase.plan.steps] if phase.plan else []
    if not any(status.step(key).state is State.AWAITING for key in keys):
        _close_wait(phase, at)


def _approved(status: IncidentStatus, event: Event) -> None:
    approval = Approval(at=event.moment, **{key: event.data[key] for key in ("digest", "operator", "role", "method")})
    status.approvals.append(approval)
    status.acknowledged_at = status.acknowledged_at or event.moment
    for phase in status.phases.values():
        if phase.plan and phase.plan.digest == approval.digest:
            phase.fruitless, phase.escalated = 0, False
            yes = {one.operator for one in status.approvals if one.digest == approval.digest}
            for step in phase.plan.steps:
                known = status.step(step.key)
                if step.manual is None and step.people <= len(yes):
                    known.short_s = None  # from now on it is a person's decision, and renewed
                    if known.state is State.AWAITING:
                        known.state = State.PENDING
            _answered(status, phase, event.moment)


def _decided(status: IncidentStatus, event: Event) -> None:
    """What a person said of one step of a plan that goes step by step."""
    step, phase, said = _step(status, event), _phase(status, event.data["phase"]), event.data["decision"]
    who, note = event.data["operator"], event.data["note"]
    status.acknowledged_at = status.acknowledged_at or event.moment
    if said == "skip":
        _leave_out(step, f"skipped by {who}{f': {note}' if note else ''}", event.moment)
    elif said == "abort":
        phase.aborted_by = who
        for one in phase.plan.steps if phase.plan else ():
            known = status.steps.setdefault(one.key, StepStatus(one.key, one.target))
            if known.state in (State.PENDING, State.AWAITING):
                _leave_out(known, f"not done: aborted by {who}", event.moment)
    elif said == "repeat" and event.data["again"]:
        for key in (*event.data["again"], step.key):
            again = status.steps[key]
            again.state, again.cleared_for = State.PENDING, ""
    else:
        step.proceeds = (*step.proceeds, who)
        if len(set(step.proceeds)) >= event.data["people"]:
            step.state, step.cleared_for, step.failed = State.PENDING, event.data["digest"], False
    _answered(status, phase, event.moment)


def _leave_out(step: StepStatus, why: str, at: datetime) -> None:
    step.state, step.ended_at, step.failed = State.SKIPPED, at, False
    step.outcome = {**step.outcome, "outcome": State.SKIPPED.value, "detail": why}


def _shown(status: IncidentStatus, event: Event) -> None:
    question, flow_run = event.data["question"], event.data["flow_run"]
    status.shown[question] = flow_run
    _phase(status, event.data["phase"]).forms[flow_run] = question


def _rejected(status: IncidentStatus, event: Event) -> None:
    status.rejected.setdefault(event.data["question"], []).append(event.data["reason"])


def _timed_out(status: IncidentStatus, event: Event) -> None:
    for key in event.data["steps"]:
        step = status.steps.setdefault(key, StepStatus(key))
        step.timed_out_at = event.moment
        if key in event.data["short"] and step.state is State.AWAITING:
            step.state, step.short_s, step.short_for = State.PENDING, event.data["seconds"], event.data["digest"]
    phase = _phase(status, event.data["phase"])
    phase.fruitless, phase.escalated = 0, False
    _answered(status, phase, event.moment)


def _refused(status: IncidentStatus, event: Event) -> None:
    status.acknowledged_at = status.acknowledged_at or event.moment
    for phase in status.phases.values():
        if phase.plan and phase.plan.digest == event.data["digest"]:
            for step in phase.plan.steps:
                known = status.step(step.key)
                unanswered = known.state is State.PENDING and known.short_s is not None
                if (known.state is State.AWAITING or unanswered) and step.manual is None:
                    known.state = State.REFUSED
                    known.ended_at = event.moment
                known.short_for = ""  # what is in force for a short while ends by itself, and is not asked about again
            _answered(status, phase, event.moment)


def _manual(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    answer, taken_back = State(event.data["outcome"]), step.state in TAKEN_BACK
    step.state = _AFTER_UNDO.get(answer, answer) if taken_back else answer
    step.outcome = {**event.data, "facts": {**step.outcome.get("facts", {}), **event.data.get("facts", {})}}
    step.ended_at = event.moment
    if step.state is State.UNDONE:
        _forget(status, step)
    status.acknowledged_at = status.acknowledged_at or event.moment
    _answered(status, _phase(status, event.data["phase"]), event.moment)


_AFTER_UNDO = {State.DONE: State.UNDONE, State.SKIPPED: State.DONE, State.FAILED: State.UNDO_FAILED}
"""What a person's answer about a failed undo means: it is gone; it stays after all; it is still to be taken back."""


def _intent(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.epoch, step.changes = State.OPEN, event.epoch, tuple(event.data["changes"])
    step.started_at = step.started_at or event.moment
    step.attempts += 1
    if step.changes:
        step.intended, step.intended_seq = (*step.intended, *step.changes), step.intended_seq or event.seq


def _outcome(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.outcome, step.ended_at = State(event.data["outcome"]), event.data, event.moment
    step.epoch = max(step.epoch, event.epoch)
    step.started_at = step.started_at or event.moment
    if event.data.get("leases"):  # all that the step now holds: what it held under other names is part of them
        end_of_step(status, event.step)
    for lease in event.data.get("leases", ()):
        grant(status, event, lease)
    for kind in event.data.get("ended_leases", ()):
        end(status, kind, event.target)


def _inherited(status: IncidentStatus, event: Event) -> None:
    """What another incident had changed is to be taken back here; what was found there is known here."""
    step = _step(status, event)
    step.intended = (*event.data["changes"], *step.intended)
    step.intended_seq = step.intended_seq or (event.seq if step.intended else 0)
    step.outcome = {**step.outcome, "facts": {**event.data["facts"], **step.outcome.get("facts", {})}}


def _retry(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state = State.PENDING
    _phase(status, event.data["phase"]).blocked = False


def _undo_requested(status: IncidentStatus, event: Event) -> None:
    """Steps that were not begun are not begun any more."""
    for key in event.data["dropped"]:
        step = status.steps.setdefault(key, StepStatus(key))
        step.state, step.ended_at = State.SKIPPED, event.moment
        step.outcome = {**step.outcome, "detail": "not done: everything is taken back"}
    for phase in status.phases.values():
        _answered(status, phase, event.moment)


def _undo_begun(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.state, step.epoch = State.UNDOING, event.epoch


def _undone(status: IncidentStatus, event: Event) -> None:
    step = _step(status, event)
    step.outcome = {**step.outcome, "detail": event.data.get("detail", ""), "checks": event.data.get("checks", [])}
    step.ended_at = event.moment
    for kind in event.data.get("ended_leases", ()):
        end(status, kind, event.target)
    if event.data["outcome"] == "done":
        step.state = State.UNDONE
        _forget(status, step)
    else:
        step.state = State.UNDO_FAILED


def _forget(status: IncidentStatus, step: StepStatus) -> None:
    """Nothing of a step is in force any more."""
    step.intended, step.intended_seq = (), 0
    end_of_step(status, step.key)


def _host_added(status: IncidentStatus, event: Event) -> None:
    known = {kind: (*getattr(status.incident, kind), *event.data.get(kind, ())) for kind in TARGETS}
    status.incident = status.incident.model_copy(
        update={kind: tuple(dict.fromkeys(names)) for kind, names in known.items()}
    )
    for phase in status.phases.values():
        _outdate(phase)


def _closed(status: IncidentStatus, event: Event) -> None:
    status.closed_at, status.closed_seq = event.moment, event.seq


def _joined(status: IncidentStatus, event: Event) -> None:
    """What a local run did is part of this incident from here on."""
    import_state(status, event.data["state"], event.seq)
    status.joined.add(event.data["hash"])


FOLDS: dict[str, Callable[[IncidentStatus, Event], None]] = {
    Kind.ALERT_RECEIVED: lambda status, event: status.alerts.append(event.data),
    Kind.PHASE_PLANNED: _planned,
    Kind.PHASE_STARTED: _phase_started,
    Kind.PHASE_ENDED: _phase_ended,
    Kind.PHASE_BLOCKED: _phase_blocked,
    Kind.RUN_REQUESTED: _run_requested,
    Kind.ESCALATED: _escalated,
    Kind.PERSON_ASKED: _asked,
    Kind.APPROVAL_GIVEN: _approved,
    Kind.APPROVAL_REFUSED: _refused,
    Kind.APPROVAL_TIMED_OUT: _timed_out,
    Kind.MANUAL_ANSWERED: _manual,
    Kind.STEP_DECIDED: _decided,
    Kind.ANSWER_REJECTED: _rejected,
    Kind.FORM_SHOWN: _shown,
    Kind.PERSON_REMINDED: lambda status, event: status.reminded.add((event.data["question"], event.data["share"])),
    Kind.STEP_INTENT: _intent,
    Kind.STEP_OUTCOME: _outcome,
    Kind.STEP_INHERITED: _inherited,
    Kind.STEP_RETRY: _retry,
    Kind.UNDO_REQUESTED: _undo_requested,
    Kind.UNDO_INTENT: _undo_begun,
    Kind.UNDO_OUTCOME: _undone,
    Kind.HOST_ADDED: _host_added,
    Kind.DOCUMENT_WRITTEN: lambda status, event: status.documents.append(event.data),
    Kind.EVIDENCE_TAKEN: lambda status, event: status.evidence.append({**event.data, "seq": event.seq, "at": event.at}),
    Kind.CLOCK_WARNED: lambda status, event: status.clock_marks.add((event.data["clock"], event.data["mark"])),
    Kind.CLOCK_BREACHED: lambda status, event: status.clock_marks.add((event.data["clock"], event.data["mark"])),
    Kind.INCIDENT_CLOSED: _closed,
    Kind.CHAIN_JOINED: _joined,
    **LEASE_FOLDS,
}
