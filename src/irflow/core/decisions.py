"""What people decide: approve, refuse, answer, retry, note, close, halt. Each is one transaction on the journal.

Each raises Refused when the operator's access does not allow it. method: how the person proved who it is; it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from irflow.core.approvals import Operator, role_for
from irflow.core.errors import Refused, UsageError
from irflow.core.identity import Deed, require
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Event, Kind
from irflow.core.mode import Mode
from irflow.core.model import Json, to_text
from irflow.core.plan import Plan
from irflow.core.playbook import Phase
from irflow.core.ports import Transaction
from irflow.core.status import TAKEN_BACK, TROUBLED, IncidentStatus, State, StepStatus, fold

ANSWERS = {"done": State.DONE, "skipped": State.SKIPPED, "failed": State.FAILED}
"""What a person can say of a manual step."""
_AGAIN = "Do it anew by its runbook: irflow run RUNBOOK --incident {}"


def _actor(operator: Operator) -> str:
    return f"operator:{operator.name}"


def _by(operator: Operator, method: str) -> dict[str, Json]:
    """Who decided, and how that was proved where the caller says so."""
    return {"operator": operator.name, **({"method": method} if method else {})}


def _open(tx: Transaction, incident: str) -> IncidentStatus:
    status = fold(tx.events(incident))
    if status.closed_at is not None:
        since = f"{to_text(status.closed_at)[:19]}Z"
        raise Refused(
            f"{status.incident.number} is closed since {since}, so nothing of it runs any more",
            hint="If it goes on, it is a new incident: irflow respond --alert FILE",
        )
    return status


SILENT = timedelta(seconds=10)
"""A process without a sign of life for so long is gone."""


def see_to_it(tx: Transaction, status: IncidentStatus, phase: str, answer: Event, *, here: bool) -> None:
    """Have somebody go on with a phase now that a person has answered.

    here: whoever writes the answer down goes on itself, as `irflow run --local` does at a terminal. Where such a run
    has ended while it waited, Prefect takes it over.
    """
    incident, known = status.incident.id, status.phases.get(phase)
    if phase == Phase.CONTAINMENT:
        tx.enqueue("respond", {"incident": incident})
    elif phase not in list(Phase) and not here and known is not None and known.requested_at is None:
        young = answer.moment - SILENT
        if any(run.ended_at is None and run.heartbeat_at > young for run in tx.runs(incident, phase)):
            return
        data: dict[str, Json] = {"phase": phase, "key": f"{incident}/{phase}/{status.last_seq}"}
        tx.append(incident, Draft(Kind.RUN_REQUESTED, "irflow:decision", data))
        tx.enqueue("flow", {"incident": incident, **data})


def waiting_plan(status: IncidentStatus, phase: str | None) -> Plan:
    """The plan that waits for an approval; `phase` is needed when several do. Raises Refused or UsageError."""
    plans = [known.plan for known in status.phases.values() if known.plan and known.ended_at is None]
    outdated = {name for name, known in status.phases.items() if known.stale}
    if phase is not None:
        plans = [plan for plan in plans if plan.phase == phase]
    asked = [
        plan for plan in plans if any(_waits(status.step(step.key)) and step.manual is None for step in plan.steps)
    ]
    if len(asked) > 1:
        raise UsageError(
            f"plans of {', '.join(plan.phase for plan in asked)} wait for an approval", hint="Say which with --phase"
        )
    if not asked:
        where = f" in {phase}" if phase else ""
        raise Refused(
            f"no plan of {status.incident.number} waits for an approval{where}{_answered(status, plans)}",
            hint=f"See irflow incidents show {status.incident.number}",
        )
    if asked[0].phase in outdated:
        raise Refused(
            f"the {asked[0].phase} plan is outdated: targets or the severity changed since",
            hint=f"A new one is made as soon as a responder runs; look: irflow plan {status.incident.number}",
        )
    return asked[0]


def _answered(status: IncidentStatus, plans: list[Plan]) -> str:
    """Who said yes to the plans in force already: whoever comes second wants to know."""
    digests = {plan.digest: plan.phase for plan in plans}
    yes = [one for one in status.approvals if one.digest in digests]
    if not yes:
        return ""
    return "; " + ", ".join(f"{one.operator} approved {digests[one.digest]} at {to_text(one.at)[:19]}Z" for one in yes)


def _waits(step: StepStatus) -> bool:
    """Whether a yes is still wanted: also of what is in force for a short while because nobody answered."""
    return step.state is State.AWAITING or step.short_s is not None


def expired(step: StepStatus) -> bool:
    """Whether a step was done for a short while, because nobody answered, and is not in force any more."""
    return step.state is State.AWAITING and step.timed_out_at is not None and bool(step.outcome)


def decide(
    tx: Transaction, incident: str, operator: Operator, *, method: str, digest: str, yes: bool, reason: str = "",
    form: str = "", here: bool = False,
) -> Event:  # fmt: skip
    """Approve or refuse exactly one plan.

    digest: of the plan the person saw. form: of Prefect that it came by, if any. here: as for see_to_it. Raises Refused
    when that plan is not in force any more, when the person holds none of the roles, or has already said yes.
    """
    require(operator, Deed.APPROVE)
    status = _open(tx, incident)
    plan = next(
        (
            one.plan
            for one in status.phases.values()
            if one.plan and one.plan.digest == digest and not one.ended_at and not one.stale
        ),
        None,
    )
    if plan is None:
        raise Refused(
            "this plan is not in force any more", hint="Look at the new one with irflow plan, then approve that"
        )
    if plan.mode is Mode.STEP:
        raise Refused(
            f"the {plan.phase} plan goes step by step: each step has its own yes",
            hint=f"irflow step {status.incident.number}",
        )
    role = role_for(operator, plan)
    if any(one.digest == digest and one.operator == operator.name for one in status.approvals):
        raise Refused(f"{operator.name} has already approved this plan", hint="Another person must be the second")
    data: dict[str, Json] = {
        "phase": plan.phase, "digest": digest, "operator": operator.name, "role": role, "method": method,
        "reason": reason, "form": form,
    }  # fmt: skip
    kind = Kind.APPROVAL_GIVEN if yes else Kind.APPROVAL_REFUSED
    event = tx.append(incident, Draft(kind, _actor(operator), data))[0]
    if yes:
        see_to_it(tx, status, plan.phase, event, here=here)
    return event


def answer(
    tx: Transaction, incident: str, operator: Operator, *, step: str, outcome: str, note: str, method: str = "",
    evidence: str = "", facts: Mapping[str, Json] | None = None, form: str = "", here: bool = False,
) -> Event:  # fmt: skip
    """Record how a manual step went. Raises Refused when it does not wait, or is another role's.

    method: how the operator was authenticated. evidence: where it can be seen, in their words. facts: the fields that
    the runbook asks for, typed; later expressions find them in `results`. form: of Prefect that it came by, if any.
    here: as for see_to_it.
    """
    require(operator, Deed.ANSWER)
    status = _open(tx, incident)
    if outcome not in ANSWERS:
        raise UsageError(f"no outcome {outcome!r}", hint=f"Say {', '.join(ANSWERS)}")
    known = status.step(step)
    try:
        planned = status.plan_step(step)
    except KeyError:
        raise UsageError(f"{status.incident.number} has no step {step}", hint="See irflow incidents show") from None
    takes_over = known.state in TROUBLED or known.state is State.UNDOING
    if not takes_over and (planned.manual is None or known.state is not State.AWAITING):
        raise Refused(f"{step} does not wait for an answer: it is {known.state.value}")
    if planned.role and planned.role not in operator.roles:
        raise Refused(f"{operator.name} does not hold the role {planned.role}", hint="Ask one who does")
    phase = step.partition("/")[0]
    data: dict[str, Json] = {
        "phase": phase, "outcome": ANSWERS[outcome].value, "note": note, "facts": dict(facts or {}),
        "evidence": evidence, "form": form, **_by(operator, method),
    }  # fmt: skip
    event = tx.append(incident, Draft(Kind.MANUAL_ANSWERED, _actor(operator), data, step, known.target))[0]
    see_to_it(tx, status, phase, event, here=here)
    return event


def retry(tx: Transaction, incident: str, operator: Operator, *, step: str | None, method: str = "") -> tuple[str, ...]:
    """Let failed steps run again: one, or all. Returns their keys; raises Refused when there are none."""
    require(operator, Deed.RETRY)
    status = _open(tx, incident)
    keys = [
        known.key
        for known in status.steps.values()
        if known.state in TROUBLED and known.state not in TAKEN_BACK and step in (None, known.key)
    ]
    if not keys and step is not None and status.step(step).state in TAKEN_BACK:
        raise Refused(f"{step} was taken back, so it does not run again", hint=_AGAIN.format(status.incident.number))
    if not keys:
        raise Refused(f"{step or 'no step'} of {status.incident.number} has failed")
    for key in keys:
        data: dict[str, Json] = {"phase": key.partition("/")[0], **_by(operator, method)}
        tx.append(incident, Draft(Kind.STEP_RETRY, _actor(operator), data, key, status.step(key).target))
    tx.enqueue("respond", {"incident": incident})
    return tuple(keys)


def note(tx: Transaction, incident: str, operator: Operator, text: str, *, method: str = "") -> Event:
    """Put a person's words into the record."""
    require(operator, Deed.NOTE)
    data: dict[str, Json] = {"text": text, **_by(operator, method)}
    return tx.append(incident, Draft(Kind.NOTE, _actor(operator), data))[0]


def close(
    tx: Transaction, incident: str, operator: Operator, reason: str, *, false_positive: bool = False, method: str = ""
) -> Event:
    """Close an incident by hand. Raises Refused while a lease is in force or an undo did not come to its end."""
    require(operator, Deed.CLOSE)
    status = _open(tx, incident)
    number = status.incident.number
    unfinished = [one.key for one in status.steps.values() if one.state in (State.UNDOING, State.UNDO_FAILED)]
    if unfinished:
        raise Refused(
            f"{number} stays open, not everything could be taken back: {', '.join(unfinished)}",
            hint=f"Again: irflow undo {number}; or say how it was dealt with: irflow step {number} STEP --note '...'",
        )
    if status.leases:
        held = ", ".join(f"{lease.kind} on {lease.target}" for lease in status.leases.values())
        raise Refused(
            f"still in force: {held}", hint="Release the hosts first: irflow run release-host --param hosts=..."
        )
    data: dict[str, Json] = {"reason": reason, "false_positive": false_positive, **_by(operator, method)}
    event = tx.append(incident, Draft(Kind.INCIDENT_CLOSED, _actor(operator), data))[0]
    tx.index_incident(status.incident, closed=True)
    return event


def halt(tx: Transaction, operator: Operator, reason: str, *, method: str = "") -> Event:
    """Stop all automation: nothing new begins anywhere until somebody resumes."""
    require(operator, Deed.HALT)
    return tx.append(SYSTEM, Draft(Kind.HALTED, _actor(operator), {"reason": reason, **_by(operator, method)}))[0]


def resume(tx: Transaction, operator: Operator, reason: str, *, method: str = "") -> Event:
    """Lift the halt."""
    require(operator, Deed.RESUME)
    return tx.append(SYSTEM, Draft(Kind.RESUMED, _actor(operator), {"reason": reason, **_by(operator, method)}))[0]
