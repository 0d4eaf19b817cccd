"""Taking steps back: agreed to by people, one intent and one proved outcome each, in the reverse of their order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from irflow.core.action import Action, Change, Check, Context, Proof
from irflow.core.approvals import Operator
from irflow.core.engine import Engine
from irflow.core.errors import (
    ClaimLost,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnreachable,
    IrflowError,
    JournalError,
    LoginFailed,
    OutcomeUnknown,
    Refused,
)
from irflow.core.identity import Deed, require
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.planner import COMMANDER, Catalog
from irflow.core.ports import Claim, Store, Transaction
from irflow.core.status import State, fold
from irflow.core.undo import PHASE, Heir, UndoPlan, UndoStep, plan_undo

_NO_USE_TO_GO_ON = (HostUnreachable, HostKeyUnknown, HostKeyChanged, LoginFailed, OutcomeUnknown)
"""After these the same host is not asked to take back the rest of a step."""


@dataclass(frozen=True)
class Request:
    """What came of asking for an undo. missing: how many more people must agree before it runs."""

    plan: UndoPlan
    missing: int


@dataclass(frozen=True)
class UndoResult:
    """How one step stands after its undo. not_tried: it waits for the undo of what was built upon it."""

    key: str
    target: str
    state: State
    detail: str = ""
    checks: tuple[Check, ...] = ()
    not_tried: bool = False
    unknown: bool = False

    @property
    def gone(self) -> bool:
        """Whether nothing of the step is in force any more."""
        return self.state is State.UNDONE


def held_elsewhere(store: Store, incident: str) -> dict[tuple[str, str], Heir]:
    """By lease (kind, target), who holds it in another open incident."""
    return {
        place: Heir(incident=one.id, number=one.number, step=lease.step)
        for one, _ in store.incidents(closed=False, limit=10_000)
        if one.id != incident
        for place, lease in fold(store.events(one.id)).leases.items()
    }


def look(store: Store, catalog: Catalog, incident: str, step: str | None = None) -> UndoPlan:
    """What there is to take back now. Raises UsageError for an unknown step."""
    status, held = fold(store.events(incident)), held_elsewhere(store, incident)
    return plan_undo(status, catalog.actions, catalog.inventory, step=step, held=held)


def request(
    tx: Transaction, engine: Engine, seen: UndoPlan, operator: Operator, *, method: str, step: str | None, reason: str,
    held: dict[tuple[str, str], Heir],
) -> Request:  # fmt: skip
    """Agree to exactly the undo that was shown; once enough people have, steps that were not begun are dropped.

    seen: what the person saw. held: see plan_undo. Raises Refused when it has changed since, when the person is no
    incident commander, may not undo, or has agreed already.
    """
    require(operator, Deed.UNDO)
    status = fold(tx.events(seen.incident))
    plan = plan_undo(status, engine.catalog.actions, engine.catalog.inventory, step=step, held=held)
    if plan.digest != seen.digest:
        raise Refused("what would be taken back has changed meanwhile", hint="Look again: irflow undo --dry-run")
    if COMMANDER not in operator.roles:
        raise Refused(f"{operator.name} does not hold the role {COMMANDER}", hint="Ask one who does")
    yes = {one.operator for one in status.approvals if one.digest == plan.digest}
    if operator.name in yes and len(yes) < plan.people:
        raise Refused(f"{operator.name} has already agreed to this undo", hint="Another person must be the second")
    actor = f"operator:{operator.name}"
    if operator.name not in yes:
        data: dict[str, Json] = {
            "phase": PHASE, "digest": plan.digest, "operator": operator.name, "role": COMMANDER, "method": method,
            "reason": reason,
        }  # fmt: skip
        tx.append(plan.incident, Draft(Kind.APPROVAL_GIVEN, actor, data))
        yes.add(operator.name)
    if len(yes) < plan.people:
        return Request(plan, plan.people - len(yes))
    dropped = tuple(key for key in plan.dropped if _free(tx, engine, plan.incident, key))
    data = {
        "digest": plan.digest, "steps": [one.key for one in plan.steps], "dropped": list(dropped),
        "operators": sorted(yes), "reason": reason,
    }  # fmt: skip
    tx.append(plan.incident, Draft(Kind.UNDO_REQUESTED, actor, data))
    return Request(plan, 0)


def _free(tx: Transaction, engine: Engine, incident: str, key: str) -> bool:
    """Whether nobody is at a step that has not begun: then nobody will be. Else it is taken back once it is over."""
    claim = tx.claim(incident, key, engine.owner, stale_s=engine.stale_s)
    if claim is not None:
        tx.release(claim)
    return claim is not None


@dataclass
class TakeBack:
    """Takes back what people agreed to, as far as it goes. Any number of processes may do so at the same time.

    actor: on whose word; it stands in the journal. report: told of each step as it is over.
    """

    engine: Engine
    actor: str
    report: Callable[[UndoResult], None] = lambda _: None
    _results: dict[str, UndoResult] = field(default_factory=dict)

    def run(self, agreed: UndoPlan, *, step: str | None = None) -> tuple[UndoResult, ...]:
        """Targets go side by side; on one target each step waits for the one after it. Returns them in plan order.

        step: the only one that was asked for. Raises Refused when a step that was just running makes it more than
        enough people agreed to.
        """
        for key in agreed.dropped:
            self._wait_for(agreed.incident, key)
        plan = look(self.engine.ports.store, self.engine.catalog, agreed.incident, step)
        if plan.people > agreed.people:
            raise Refused("; ".join(plan.reasons), hint="Look again: irflow undo --dry-run")
        waiting = list(plan.steps)
        running: dict[Future[UndoResult], UndoStep] = {}
        with ThreadPoolExecutor(max(1, self.engine.slots.count), thread_name_prefix="undo") as pool:
            while waiting or running:
                for one in [one for one in waiting if self._turn(one)]:
                    waiting.remove(one)
                    kept = [key for key in one.needs if not self._results[key].gone]
                    if kept:
                        self._done(self._stays(plan.incident, one, kept))
                    else:
                        running[pool.submit(self._guarded, plan.incident, one)] = one
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    del running[future]
                    self._done(future.result())
        return tuple(self._results[one.key] for one in plan.steps)

    def _turn(self, step: UndoStep) -> bool:
        return all(key in self._results for key in (*step.after, *step.needs))

    def _done(self, result: UndoResult) -> None:
        self._results[result.key] = result
        self.report(result)

    def _stays(self, incident: str, step: UndoStep, kept: list[str]) -> UndoResult:
        state = self.engine.status(incident).step(step.key).state
        detail = f"not tried: {', '.join(kept)} is built upon it and is still in force"
        return UndoResult(step.key, step.target, state, detail, not_tried=True)

    def _wait_for(self, incident: str, key: str) -> None:
        """Let whoever is at a step come to its end."""
        store, clock = self.engine.ports.store, self.engine.ports.clock
        timeout = self.engine.status(incident).plan_step(key).timeout_s
        deadline = clock.monotonic() + timeout + 2 * self.engine.stale_s
        while clock.monotonic() < deadline:
            if store.transact(lambda tx: _free(tx, self.engine, incident, key)):
                return
            threading.Event().wait(0.1)

    def _guarded(self, incident: str, step: UndoStep) -> UndoResult:
        """One step, however it ends. What could not even be begun stands on the board like what failed."""
        try:
            return self._one(incident, step)
        except (ClaimLost, JournalError) as error:  # somebody else is at it, or nothing can be written
            state = self.engine.status(incident).step(step.key).state
            return UndoResult(step.key, step.target, state, str(error), unknown=True)
        except (IrflowError, ValueError) as error:  # also parameters that the action does not take any more
            data: dict[str, Json] = {"outcome": "failed", "action": step.action, "detail": str(error), "checks": []}
            draft = Draft(Kind.UNDO_OUTCOME, self.actor, data, step.key, step.target)
            self.engine.ports.store.transact(lambda tx: tx.append(incident, draft))
            return UndoResult(step.key, step.target, State.UNDO_FAILED, str(error))

    def _one(self, incident: str, step: UndoStep) -> UndoResult:
        """Take one step back under its claim, once whoever is at it has come to an end or fallen silent."""
        status = self.engine.status(incident)
        planned = status.plan_step(step.key)
        plan = status.plan(step.key.partition("/")[0])
        if plan is None:
            raise Refused(f"{step.key} has no plan")
        clock = self.engine.ports.clock
        deadline = clock.monotonic() + planned.timeout_s + 2 * self.engine.stale_s
        while True:
            try:
                return self.engine.with_step(plan, planned, partial(self._back, step.heir), undo=True)
            except ClaimLost:
                if clock.monotonic() > deadline:
                    raise
                threading.Event().wait(0.05)

    def _back(self, heir: Heir | None, action: Action[Any], _params: Any, context: Context) -> UndoResult:
        if heir is not None:
            return self._hand_over(heir, context)
        known = context.status.step(context.step.key)
        changes = tuple(Change.from_data(one) for one in reversed(known.intended))
        if not changes:
            return UndoResult(known.key, known.target, known.state, "nothing of it is left to take back")
        summaries: list[Json] = [one.summary for one in changes]
        self._append(context, Kind.UNDO_INTENT, {"action": action.name, "changes": summaries})
        proofs, errors = _undo_each(action, changes, context)
        result = _verdict(context, proofs, errors)
        data: dict[str, Json] = {
            "outcome": "done" if result.gone else "failed", "action": action.name, "detail": result.detail,
            "checks": [
                {"name": one.name, "passed": one.passed, "before": one.before, "after": one.after}
                for one in result.checks
            ],
            "facts": {key: value for proof in proofs for key, value in proof.facts.items()},
            "ended_leases": [kind for proof in proofs if proof.passed for kind in proof.ended_leases],
        }  # fmt: skip
        self._append(context, Kind.UNDO_OUTCOME, data)
        return result

    def _hand_over(self, heir: Heir, context: Context) -> UndoResult:
        """Leave it in force for another incident: what this step changed is that one's to take back from now on.

        Nothing happens on the target. Raises Refused when the other one does not hold it any more.
        """
        step, incident = context.step, context.incident
        claim = Claim(incident.id, step.key, self.engine.owner, context.epoch)
        detail = f"stays in force for {heir.number}, which needs it too"

        def work(tx: Transaction) -> None:
            mine, other = fold(tx.events(incident.id)).step(step.key), fold(tx.events(heir.incident))
            if not other.open or not any(lease.step == heir.step for lease in other.leases.values()):
                raise Refused(f"{heir.number} does not need it any more", hint="Look again: irflow undo --dry-run")
            inherited: dict[str, Json] = {
                "changes": list(mine.intended), "facts": mine.outcome.get("facts", {}), "from": incident.number,
                "step": step.key,
            }  # fmt: skip
            ended: dict[str, Json] = {"outcome": "done", "detail": detail, "checks": [], "heir": heir.number}
            tx.append(heir.incident, Draft(Kind.STEP_INHERITED, self.actor, inherited, heir.step, step.target))
            tx.append(
                incident.id, Draft(Kind.UNDO_OUTCOME, self.actor, ended, step.key, step.target, context.epoch),
                claim=claim,
            )  # fmt: skip

        self.engine.ports.store.transact(work)
        return UndoResult(step.key, step.target, State.UNDONE, detail)

    def _append(self, context: Context, kind: Kind, data: dict[str, Json]) -> None:
        step = context.step
        claim = Claim(context.incident.id, step.key, self.engine.owner, context.epoch)
        draft = Draft(kind, self.actor, data, step.key, step.target, context.epoch)
        self.engine.ports.store.transact(lambda tx: tx.append(context.incident.id, draft, claim=claim))


def _undo_each(
    action: Action[Any], changes: tuple[Change, ...], context: Context
) -> tuple[list[Proof], list[IrflowError]]:
    """Every change on its own: one that cannot be taken back keeps no other in force."""
    proofs: list[Proof] = []
    errors: list[IrflowError] = []
    for change in changes:
        try:
            proofs.append(action.undo(change, context))
        except ClaimLost:
            raise
        except IrflowError as error:
            errors.append(error)
            if isinstance(error, _NO_USE_TO_GO_ON):
                break
        except Exception as error:  # noqa: BLE001 - an action's bug must become an outcome, not a silent intent
            errors.append(IrflowError(f"{type(error).__name__} in {action.name}: {error}", where=change.summary))
    return proofs, errors


def _verdict(context: Context, proofs: list[Proof], errors: list[IrflowError]) -> UndoResult:
    failed = [name for proof in proofs for name in proof.failed]
    wrong = [*(str(error) for error in errors), *([f"not proved: {', '.join(failed)}"] if failed else [])]
    return UndoResult(
        context.step.key,
        context.step.target,
        State.UNDO_FAILED if wrong else State.UNDONE,
        "; ".join(wrong),
        tuple(check for proof in proofs for check in proof.checks),
        unknown=any(isinstance(error, OutcomeUnknown) for error in errors),
    )
