"""A dry run: the targets are looked at, and each step says what it would change; nothing is written anywhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from irflow.core.action import Change
from irflow.core.engine import Engine
from irflow.core.errors import IrflowError
from irflow.core.plan import Plan, PlanStep
from irflow.core.status import SETTLED, IncidentStatus


class Would(StrEnum):
    """What a step would do if it ran now."""

    CHANGE = "change"
    NOTHING = "nothing"
    PERSON = "person"
    OVER = "over"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Preview:
    """What one step would do. changes: as they would be approved. detail: why nothing, or why nobody can say."""

    key: str
    target: str
    would: Would
    changes: tuple[Change, ...] = ()
    detail: str = ""


def preview(engine: Engine, plan: Plan, status: IncidentStatus) -> tuple[Preview, ...]:
    """Look at all targets side by side, in the order of the plan. Steps that would come first have not happened."""
    with ThreadPoolExecutor(max(1, engine.slots.count), thread_name_prefix="look") as pool:
        return tuple(pool.map(lambda step: _look(engine, step, status), plan.steps))


def _look(engine: Engine, step: PlanStep, status: IncidentStatus) -> Preview:
    if step.manual is not None:
        return Preview(step.key, step.target, Would.PERSON, detail=step.manual)
    state = status.step(step.key).state
    if state in SETTLED:
        return Preview(step.key, step.target, Would.OVER, detail=state.value)
    try:
        changes = engine.would_change(step, status)
    except IrflowError as error:
        return Preview(step.key, step.target, Would.UNKNOWN, detail=str(error))
    except Exception as error:  # noqa: BLE001 - an action's bug must not hide what the other steps would do
        detail = f"{type(error).__name__} in {step.action}: {error}"
        return Preview(step.key, step.target, Would.UNKNOWN, detail=detail)
    detail = "" if changes else "already as wanted"
    return Preview(step.key, step.target, Would.CHANGE if changes else Would.NOTHING, changes, detail)
