"""Undo as people ask for it: look, agree, take back here and now; it needs neither Prefect nor the web process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from irflow.adapters.wake import wake
from irflow.core import decisions, taking_back
from irflow.core.approvals import Operator
from irflow.core.errors import Refused
from irflow.core.incident import Incident
from irflow.core.taking_back import Request, TakeBack, UndoResult
from irflow.core.undo import UndoPlan
from irflow.wiring import Runtime

Report = Callable[[UndoResult], None]


@dataclass(frozen=True)
class Undone:
    """How an undo ended. results: in the order of the plan."""

    plan: UndoPlan
    results: tuple[UndoResult, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing that could be taken back is left."""
        return all(one.gone for one in self.results)

    @property
    def exit_code(self) -> int:
        """0 all taken back; 5 an outcome is unknown; 4 some are left; 1 all are (DESIGN section 6)."""
        if self.complete:
            return 0
        if any(one.unknown for one in self.results):
            return 5
        return 4 if any(one.gone for one in self.results) else 1


def look(wired: Runtime, incident: Incident, step: str | None = None) -> UndoPlan:
    """What there is to take back now; nothing is written. Raises UsageError for an unknown step."""
    return taking_back.look(wired.store, wired.engine.catalog, incident.id, step)


def agree(wired: Runtime, seen: UndoPlan, operator: Operator, *, method: str, step: str | None, reason: str) -> Request:
    """Agree to what was shown. Raises Refused; see core.taking_back.request."""
    held = taking_back.held_elsewhere(wired.store, seen.incident)
    return wired.store.transact(
        lambda tx: taking_back.request(
            tx, wired.engine, seen, operator, method=method, step=step, reason=reason, held=held
        )
    )


def take_back(
    wired: Runtime, agreed: UndoPlan, operator: Operator, *, step: str | None, report: Report = lambda _: None
) -> Undone:
    """Take back what people agreed to, in this process, and tell the responder when it is over."""
    results = TakeBack(wired.engine, f"operator:{operator.name}", report).run(agreed, step=step)
    wake(wired.settings.responder_socket)
    return Undone(agreed, results)


def close_false_positive(
    wired: Runtime,
    incident: Incident,
    operator: Operator,
    reason: str,
    results: Sequence[UndoResult],
    *,
    method: str = "",
) -> None:
    """Close once everything was taken back. Raises Refused, naming what is left; the incident then stays open."""
    left = [f"{one.key}: {one.detail}" for one in results if not one.gone]
    if left:
        raise Refused(
            f"{incident.number} stays open, not everything could be taken back: {'; '.join(left)}",
            hint=f"Mend the cause, then once more: irflow incidents close {incident.number} --false-positive",
        )
    wired.store.transact(
        lambda tx: decisions.close(tx, incident.id, operator, reason, false_positive=True, method=method)
    )
    wake(wired.settings.responder_socket)
