"""What may happen next in an incident: which steps can run, which phase is due, whether all is over."""

from __future__ import annotations

from irflow.core.plan import Plan, PlanStep
from irflow.core.playbook import Phase
from irflow.core.status import FINISHED, TROUBLED, IncidentStatus, State
from irflow.core.timeouts import may_run

MOST_ATTEMPTS = 3
"""A step whose outcome stays unknown is tried so often, then a person must look."""


def over(step: PlanStep, state: State) -> bool:
    """Whether steps that wait for this one may go on."""
    return state in FINISHED or (step.on_failure == "continue" and state in TROUBLED)


def runnable(status: IncidentStatus, plan: Plan) -> tuple[PlanStep, ...]:
    """The steps that a process could run now without any person."""
    by_key = {step.key: step for step in plan.steps}
    found = []
    for step in plan.steps:
        known = status.step(step.key)
        if step.manual is not None or not may_run(step, plan, status):
            continue
        tries_left = known.state is not State.UNKNOWN or known.attempts < MOST_ATTEMPTS
        open_ = known.state in (State.PENDING, State.OPEN, State.UNKNOWN, State.AWAITING)
        if open_ and tries_left and all(over(by_key[key], status.step(key).state) for key in step.after):
            found.append(step)
    return tuple(found)


def to_ask(status: IncidentStatus, plan: Plan) -> tuple[PlanStep, ...]:
    """The steps whose turn has come, that need a person, and for which nobody was asked yet."""
    by_key = {step.key: step for step in plan.steps}
    return tuple(
        step
        for step in plan.steps
        if status.step(step.key).state is State.PENDING
        and (step.manual is not None or not may_run(step, plan, status))
        and all(over(by_key[key], status.step(key).state) for key in step.after)
    )


def ended(status: IncidentStatus, plan: Plan) -> str | None:
    """`completed`, `partly` or `aborted` when every step is over, else None.

    What is done for a short while only is not over.
    """
    if any(status.step(step.key).short_s is not None for step in plan.steps):
        return None
    states = [(step, status.step(step.key).state) for step in plan.steps]
    phase = status.phases.get(plan.phase)
    if phase is not None and phase.aborted_by:
        return "aborted" if all(state in FINISHED | TROUBLED for _, state in states) else None
    if not all(over(step, state) for step, state in states):
        return None
    return "completed" if all(state in FINISHED for _, state in states) else "partly"


def blocking(status: IncidentStatus, plan: Plan) -> tuple[str, ...]:
    """Keys of the steps that failed and stop others; a person must retry or answer them."""
    return tuple(
        step.key
        for step in plan.steps
        if status.step(step.key).state in TROUBLED and not over(step, status.step(step.key).state)
    )


def due_phases(status: IncidentStatus) -> tuple[Phase, ...]:
    """Phases that should be running now: detection and containment at once, the others one after the other.

    Containment comes first, as it is the one whose seconds count. A phase that had ended is due again once a target
    was added: it gets a new plan.
    """

    def done(phase: Phase) -> bool:
        known = status.phases.get(phase)
        return known is not None and known.ended_at is not None and not known.stale

    if not status.open or status.incident.playbook is None:
        return ()
    due = [phase for phase in (Phase.CONTAINMENT, Phase.DETECTION) if not done(phase)]
    if not due and not done(Phase.RECOVERY):
        due = [Phase.RECOVERY]
    elif not due and not done(Phase.LESSONS_LEARNED):
        due = [Phase.LESSONS_LEARNED]
    return tuple(due)


def closable(status: IncidentStatus) -> bool:
    """Whether nothing is left to do: all phases ended, no lease in force, no undo that failed."""
    phases = [status.phases.get(phase) for phase in Phase]
    return (
        status.open
        and all(phase is not None and phase.ended_at is not None and not phase.stale for phase in phases)
        and not status.leases
        and not any(step.state in (State.UNDOING, State.UNDO_FAILED) for step in status.steps.values())
    )
