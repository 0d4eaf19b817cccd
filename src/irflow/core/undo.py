"""What an undo would take back, in which order, and who must agree to it: a plan of its own, with a digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from irflow.core.action import Registry
from irflow.core.errors import UsageError
from irflow.core.inventory import Inventory
from irflow.core.journal import digest
from irflow.core.model import Json, Noun
from irflow.core.plan import PlanStep
from irflow.core.status import IncidentStatus, State, StepStatus

PHASE = "undo"
"""What approvals of an undo name as their phase."""


class UndoStep(Noun):
    """One step to take back.

    changes: what it meant to change, the last first. after: steps of the same target whose undo comes first, however
    it ends. needs: steps built upon this one, which must be gone before it is touched.
    """

    key: str
    target: str
    title: str
    action: str
    changes: tuple[dict[str, Json], ...]
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


class Left(Noun):
    """A step that stays as it is, and why."""

    key: str
    target: str
    reason: str


class UndoPlan(Noun):
    """What an undo takes back, in order. people: how many must agree. dropped: steps that are not begun any more."""

    incident: str
    steps: tuple[UndoStep, ...]
    left: tuple[Left, ...] = ()
    dropped: tuple[str, ...] = ()
    people: int = 1
    reasons: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is taken back, in its order. What is dropped is not part of it: it may run out meanwhile."""
        return digest([self.incident, [one.model_dump(mode="json") for one in self.steps]])


@dataclass(frozen=True)
class _Look:
    """What planning an undo reads."""

    status: IncidentStatus
    actions: Registry
    held: Mapping[tuple[str, str], str]


def plan_undo(
    status: IncidentStatus,
    actions: Registry,
    inventory: Inventory,
    *,
    step: str | None = None,
    held: Mapping[tuple[str, str], str] | None = None,
) -> UndoPlan:
    """What there is to take back: all, or one step.

    held: numbers of other open incidents by the leases (kind, target) they hold. Raises UsageError for an unknown step.
    """
    if step is not None and step not in status.steps:
        raise UsageError(f"{status.incident.number} has no step {step}", hint="See irflow incidents show")
    look = _Look(status, actions, held or {})
    known = [one for one in status.steps.values() if step in (None, one.key)]
    chosen = [(one, one.planned) for one in known if one.planned is not None and _matters(look, one, one.planned)]
    # Steps of a local run that was joined share the number of the event that joined it; epochs are near the time.
    chosen.sort(key=lambda one: (one[0].intended_seq, one[0].epoch), reverse=True)
    stays = {one.key: why for one, planned in chosen if (why := _stays(look, one, planned))}
    steps = _ordered(look, [one for one in chosen if one[0].key not in stays])
    guarded = sorted({one.target for one in steps if _guarded(inventory, one.target)})
    return UndoPlan(
        incident=status.incident.id,
        steps=steps,
        left=tuple(Left(key=key, target=status.step(key).target, reason=why) for key, why in stays.items()),
        dropped=_not_begun(look) if step is None else (),
        people=2 if guarded else 1,
        reasons=tuple(f"{name} is protected, or irflow itself needs it: two people must agree" for name in guarded),
    )


def _guarded(inventory: Inventory, name: str) -> bool:
    host = inventory.hosts.get(name)
    return name in inventory.own or (host is not None and host.protected)


def _matters(look: _Look, step: StepStatus, planned: PlanStep) -> bool:
    """Whether a step changed something outside irflow, or holds something in force there."""
    if planned.action is None:
        return False
    holds = any(lease.step == step.key for lease in look.status.leases.values())
    mutates = planned.action not in look.actions.names() or look.actions.get(planned.action).mutates
    return mutates and (bool(step.intended) or holds)


def _stays(look: _Look, step: StepStatus, planned: PlanStep) -> str:
    """Why a step is left as it is; empty when it is taken back."""
    if planned.action not in look.actions.names():
        return f"there is no action {planned.action} any more: install what had it"
    action = look.actions.get(planned.action)
    if not action.reversible:
        return f"{action.name} cannot be taken back: {action.irreversible_because}"
    if not step.intended:
        return "it found everything in force already and changed nothing itself: release it by its own runbook"
    mine = [place for place, lease in look.status.leases.items() if lease.step == step.key and place in look.held]
    return "; ".join(f"{look.held[kind, target]} needs the {kind} of {target} too" for kind, target in mine)


def _ordered(look: _Look, steps: list[tuple[StepStatus, PlanStep]]) -> tuple[UndoStep, ...]:
    """Steps with what each must wait for. steps: the last in the journal first."""
    below = {one.key: _foundations(look.status, one.key) for one, _ in steps}
    found: list[UndoStep] = []
    for one, planned in steps:
        found.append(
            UndoStep(
                key=one.key,
                target=one.target,
                title=planned.title,
                action=planned.action or "",
                changes=tuple(reversed(one.intended)),
                after=tuple(other.key for other in found if other.target == one.target),
                needs=tuple(other.key for other in found if one.key in below[other.key]),
            )
        )
    return tuple(found)


def _foundations(status: IncidentStatus, key: str) -> frozenset[str]:
    """All steps that had to be over before a step could run, near and far."""
    found: set[str] = set()
    todo = [key]
    while todo:
        known = status.steps.get(todo.pop())
        for one in known.planned.after if known and known.planned else ():
            if one not in found:
                found.add(one)
                todo.append(one)
    return frozenset(found)


def _not_begun(look: _Look) -> tuple[str, ...]:
    """Steps of the plans in force that would change something and have not begun."""
    return tuple(
        step.key
        for phase in look.status.phases.values()
        for step in (phase.plan.steps if phase.plan else ())
        if step.action and look.actions.get(step.action).mutates and not look.actions.get(step.action).needs_person
        and look.status.step(step.key).state in (State.PENDING, State.AWAITING)
    )  # fmt: skip
