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


class Heir(Noun):
    """A step of another open incident that holds a lease too. number: of that incident."""

    incident: str
    number: str
    step: str


class UndoStep(Noun):
    """One step to take back.

    changes: what it meant to change, the last first. after: steps of the same target whose undo comes first, however
    it ends. needs: steps built upon this one, which must be gone before it is touched. heir: who needs the same; then
    it stays in force for that incident, which is the one to take it back later.
    """

    key: str
    target: str
    title: str
    action: str
    changes: tuple[dict[str, Json], ...]
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    heir: Heir | None = None


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
    held: Mapping[tuple[str, str], Heir]


def plan_undo(
    status: IncidentStatus,
    actions: Registry,
    inventory: Inventory,
    *,
    step: str | None = None,
    held: Mapping[tuple[str, str], Heir] | None = None,
) -> UndoPlan:
    """What there is to take back: all, or one step.

    held: by lease (kind, target), who holds it in another open incident. Raises UsageError for an unknown step.
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
    guarded = sorted({one.target for one in steps if one.heir is None and _guarded(inventory, one.target)})
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
    holds = bool(_places(look, step)) and not _done_by_another(look.status, step, planned)
    mutates = planned.action not in look.actions.names() or look.actions.get(planned.action).mutates
    return mutates and (bool(step.intended) or holds)


def _places(look: _Look, step: StepStatus) -> list[tuple[str, str]]:
    """The leases (kind, target) that a step holds."""
    return [place for place, lease in look.status.leases.items() if lease.step == step.key]


def _done_by_another(status: IncidentStatus, step: StepStatus, planned: PlanStep) -> bool:
    """Whether a step only found what another one of this incident had done: it goes with that."""
    return not step.intended and any(
        one.intended and one.target == step.target and one.planned is not None and one.planned.action == planned.action
        for one in status.steps.values()
    )


def _heir(look: _Look, step: StepStatus) -> Heir | None:
    """Who needs all that a step holds, too."""
    heirs = [look.held.get(place) for place in _places(look, step)]
    return heirs[0] if heirs and all(one == heirs[0] for one in heirs) else None


def _stays(look: _Look, step: StepStatus, planned: PlanStep) -> str:
    """Why a step is left as it is; empty when it is taken back."""
    if planned.action not in look.actions.names():
        return f"there is no action {planned.action} any more: install what had it"
    action = look.actions.get(planned.action)
    if not action.reversible:
        return f"{action.name} cannot be taken back: {action.irreversible_because}"
    if _heir(look, step):
        return ""
    if not step.intended:
        return "it found everything in force already and changed nothing itself: release it by its own runbook"
    shared = [(place, look.held[place]) for place in _places(look, step) if place in look.held]
    return "; ".join(f"{heir.number} needs the {kind} of {target} too" for (kind, target), heir in shared)


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
                heir=_heir(look, one),
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
