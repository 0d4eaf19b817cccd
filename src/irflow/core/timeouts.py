"""Questions that nobody answered in time: whom to tell, and what may be cut off for a short while meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from irflow.core.action import Registry
from irflow.core.alert import Trust
from irflow.core.approvals import approved
from irflow.core.guards import outranks
from irflow.core.inventory import Inventory
from irflow.core.mode import Mode
from irflow.core.plan import Plan, PlanStep
from irflow.core.playbook import Phase, Playbook
from irflow.core.status import IncidentStatus, Lease, State

SHORT_LEASE = timedelta(minutes=30)
"""Longest that something is cut off because nobody answered; never prolonged unless a person agrees."""


@dataclass(frozen=True)
class Unanswered:
    """The questions of one plan whose window is over. short: those that are done for a short while all the same."""

    plan: Plan
    steps: tuple[PlanStep, ...]
    short: tuple[PlanStep, ...] = ()


def may_run(step: PlanStep, plan: Plan, status: IncidentStatus) -> bool:
    """Whether a step needs nobody's yes any more: enough people agreed, or nobody did in time and it is short.

    Where a plan goes step by step, only what people said of this very step counts.
    """
    if plan.mode is Mode.STEP:
        return status.step(step.key).cleared_for == plan.digest
    if approved(step, plan, status.approvals):
        return True
    known = status.step(step.key)
    return known.short_for == plan.digest and known.short_s is not None


def unanswered(
    status: IncidentStatus, playbook: Playbook, actions: Registry, inventory: Inventory, now: datetime
) -> tuple[Unanswered, ...]:
    """What became overdue and was not told of yet, by plan."""
    found = []
    for phase in status.phases.values():
        if phase.plan is None or phase.stale or phase.ended_at is not None:
            continue
        late = tuple(step for step in phase.plan.steps if _late(status, step, playbook.approval_window, now))
        if late:
            short = [one for one in late if _may_be_short(status, one, phase.phase, playbook, actions, inventory)]
            found.append(Unanswered(phase.plan, late, tuple(short)))
    return tuple(found)


def _late(status: IncidentStatus, step: PlanStep, window: timedelta, now: datetime) -> bool:
    known = status.step(step.key)
    if step.manual is not None or known.state is not State.AWAITING or known.asked_at is None:
        return False
    told = known.timed_out_at is not None and known.timed_out_at >= known.asked_at
    return not told and now >= known.asked_at + window


def _may_be_short(
    status: IncidentStatus, step: PlanStep, phase: str, playbook: Playbook, actions: Registry, inventory: Inventory
) -> bool:
    """Only what ends by itself, asked for by a verified sender, within the caps, where nobody need be careful.

    A host that matters more than the incident, one above a cap, or one for which two people are needed stays as it is:
    silence is no reason for an outage that somebody wanted to be asked about.
    """
    host = inventory.hosts.get(step.target)
    if playbook.on_timeout != "short_lease" or phase != Phase.CONTAINMENT or host is None:
        return False
    action = actions.get(step.action or "")
    ends = action.lease is not None and "lease" in action.Params.model_fields and not action.needs_person
    careful = host.protected or host.name in inventory.own or outranks(host, status.incident) or step.people > 1
    over = any(reason.startswith("over the cap") for reason in step.reasons)
    return ends and not careful and not over and status.incident.trust is Trust.VERIFIED


def short_leases(status: IncidentStatus, leases: Iterable[Lease]) -> tuple[Lease, ...]:
    """The leases among these that are in force only because nobody answered."""
    return tuple(one for one in leases if status.step(one.step).short_s is not None)
