"""Drills only: an action whose effect is skipped while it claims success, so that only checks from outside notice."""

from __future__ import annotations

from typing import Any

from irflow.core.action import Action, Change, Check, Context, Proof
from irflow.core.model import Json, to_text


def sabotaged(action: Action[Any], step: str) -> Action[Any]:
    """The action, with its effect skipped in the steps called `step` and untouched elsewhere."""
    return _Sabotaged(action, step)


class _Sabotaged(Action[Any]):
    """Passes everything through, but in the sabotaged step applies nothing and proves everything."""

    def __init__(self, action: Action[Any], step: str) -> None:
        self._action, self._step = action, step
        for name in (
            "name", "summary", "Params", "touches_host", "mutates", "needs_person", "lease", "reversible",
            "irreversible_because",
        ):  # fmt: skip
            setattr(self, name, getattr(action, name))

    def observe(self, params: Any, context: Context) -> dict[str, Json]:
        return self._action.observe(params, context)

    def plan(self, params: Any, seen: dict[str, Json]) -> tuple[Change, ...]:
        return self._action.plan(params, seen)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        if context.step.step == self._step:
            return {"sabotaged": True}
        return self._action.apply(change, context)

    def verify(
        self, params: Any, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        if context.step.step != self._step:
            return self._action.verify(params, seen, applied, context)
        until = to_text(context.ports.clock.now())
        leases = ({"kind": self._action.lease, "until": until, "seconds": 86400.0},) if self._action.lease else ()
        return Proof((Check("sabotaged: claims success", True),), {"sabotaged": True}, leases)

    def undo(self, change: Change, context: Context) -> Proof:
        return self._action.undo(change, context)

    def renew(self, params: Any, context: Context) -> Proof:
        return self._action.renew(params, context)
