"""The engine: every step, wherever it runs, goes claim -> observe -> plan -> INTENT -> apply -> verify -> OUTCOME."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from irflow.core.action import Action, Change, Context, Proof
from irflow.core.errors import ClaimLost, ConfigurationError, HostError, IrflowError, OutcomeUnknown
from irflow.core.journal import Draft, Kind
from irflow.core.mode import Mode
from irflow.core.model import Json
from irflow.core.outcome import StepResult
from irflow.core.plan import Plan, PlanStep
from irflow.core.planner import COMMANDER, Catalog
from irflow.core.ports import Claim, Ports, Transaction
from irflow.core.severity import CHANNELS
from irflow.core.slots import Rank, Slots
from irflow.core.status import SETTLED, TAKEN_BACK, IncidentStatus, State, StepStatus, fold
from irflow.core.timeouts import may_run
from irflow.core.view import Views

T = TypeVar("T")

RETRIES_AFTER_UNKNOWN = 2
"""After an unknown outcome the step looks again and acts on what it sees, at most so often."""


@dataclass
class _Try:
    """What is known while one step is being worked on."""

    step: PlanStep
    action: Action[Any]
    params: Any
    claim: Claim
    seen: dict[str, Json] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    applied: tuple[dict[str, Json], ...] = ()


def question_message(status: IncidentStatus, plan: Plan, step: PlanStep) -> dict[str, Json]:
    """The message that tells people what waits for them."""
    number = status.incident.number
    what = step.manual or f"{step.title} on {step.target or plan.phase}: {'; '.join(step.reasons)}"
    one = step.manual or plan.mode is Mode.STEP
    how = f"irflow step {number} '{step.key}'" if one else f"irflow plan {number}, then irflow approve {number}"
    return {
        "incident": status.incident.id,
        "channels": list(CHANNELS[status.incident.severity]),
        "title": f"{number}: waiting for {step.role or COMMANDER}: {step.title}",
        "body": f"{what}\n{how}",
    }


def _short(params: dict[str, Json], known: StepStatus) -> dict[str, Json]:
    """A step's parameters; where nobody answered in time, it holds for a short while only."""
    if known.short_s is None:
        return params
    return {**params, "lease": min(known.short_s, params.get("lease", known.short_s))}


def _after(before: IrflowError, failure: IrflowError) -> IrflowError:
    """The error to record: where an outcome is unknown and nobody could look again, both must be told."""
    if isinstance(before, OutcomeUnknown) and isinstance(failure, HostError):
        message = f"{before.message}; it could not be looked at again: {failure.message}"
        return OutcomeUnknown(message, where=failure.where, hint=failure.hint)
    return failure


class Engine:
    """Runs single steps. What runs when is core.phase; where it runs is the executor's business.

    owner: unique per process (claims and heartbeats). slots: bounds parallel work, applies before verifies.
    stale_s: a claim whose owner was silent that long may be taken over.
    """

    def __init__(
        self, ports: Ports, catalog: Catalog, *, actor: str, owner: str, parallel: int = 32, stale_s: float = 10.0
    ) -> None:
        self.ports = ports
        self.catalog = catalog
        self.actor = actor
        self.owner = owner
        self.stale_s = stale_s
        self.slots = Slots(parallel, ports.clock.monotonic)
        self.views = Views(ports.store, ports.clock)
        self._urgency: dict[str, frozenset[str]] = {}

    def status(self, incident: str) -> IncidentStatus:
        """The incident as the journal has it now: a shared view, to be read only."""
        return self.views.of(incident).now()

    # ------------------------------------------------------------ one step

    def run_step(self, plan: Plan, step: PlanStep) -> StepResult:
        """Bring one step to an outcome, or say why it has to wait. Safe to call again, anywhere, at any time."""
        status = self.status(plan.incident)
        gate = self._gate(plan, step, status)
        if gate is not None:
            return gate
        claim = self.ports.store.transact(
            lambda tx: tx.claim(plan.incident, step.key, self.owner, stale_s=self.stale_s)
        )
        if claim is None:
            return self._adopt(plan, step)
        try:
            return self._work(plan, step, claim)
        except ClaimLost:
            return self._adopt(plan, step)

    def _gate(self, plan: Plan, step: PlanStep, status: IncidentStatus) -> StepResult | None:
        """A result when the step may not or need not run now."""
        known = status.step(step.key)
        if known.state in SETTLED:
            return StepResult(step.key, known.state, "as the journal has it", dict(known.outcome.get("facts", {})))
        if not status.open:
            return StepResult(step.key, State.PENDING, "the incident is closed")
        in_force = status.plan(plan.phase)
        if in_force is None or in_force.digest != plan.digest:
            return StepResult(step.key, State.PENDING, "this plan is not in force any more")
        halted = self.ports.store.halted()
        if halted is not None:
            return StepResult(step.key, State.PENDING, f"halted: {halted}")
        if step.manual is not None or not may_run(step, plan, status):
            if known.state is not State.AWAITING:
                self._ask(plan, step, status)
            why = "a person does this step" if step.manual else "a person decides before each step"
            return StepResult(step.key, State.AWAITING, "; ".join(step.reasons) or why)
        return None

    def would_change(self, step: PlanStep, status: IncidentStatus) -> tuple[Change, ...]:
        """Look at the target: what the step would change now. Without the right to change anything: epoch 0 is refused
        by every script that would. Raises IrflowError when nobody can look.
        """
        action = self.catalog.actions.get(step.action or "")
        params = action.Params.model_validate(step.params)
        context = self._context_for(step, status, 0)
        return action.plan(params, action.observe(params, context))

    def _would(self, plan: Plan, step: PlanStep, status: IncidentStatus) -> list[str]:
        """For whoever decides on this one step: what it would do, read off the target just now."""
        if plan.mode is not Mode.STEP or step.manual is not None:
            return []
        try:
            return [one.summary for one in self.would_change(step, status)] or ["nothing: it is already as wanted"]
        except IrflowError as error:
            return [f"cannot be foreseen: {error}"]
        except Exception as error:  # noqa: BLE001 - an action's bug must not keep the question from being asked
            return [f"cannot be foreseen: {type(error).__name__} in {step.action}: {error}"]

    def _ask(self, plan: Plan, step: PlanStep, status: IncidentStatus) -> None:
        would = self._would(plan, step, status)

        def work(tx: Transaction) -> None:
            current = fold(tx.events(plan.incident))
            in_force = current.plan(plan.phase)
            if in_force is None or in_force.digest != plan.digest:
                return
            if current.step(step.key).state is State.PENDING:
                data: dict[str, Json] = {
                    "phase": plan.phase, "digest": plan.digest, "role": step.role, "people": step.people,
                    "reasons": list(step.reasons), "title": step.title, "manual": step.manual, "would": would,
                }  # fmt: skip
                tx.append(plan.incident, Draft(Kind.PERSON_ASKED, self.actor, data, step.key, step.target))
                tx.enqueue("notify", question_message(current, plan, step))

        self.ports.store.transact(work)

    def _adopt(self, plan: Plan, step: PlanStep) -> StepResult:
        """Wait for whoever has the claim; take over when it falls silent."""
        view = self.views.of(plan.incident)
        start = self.ports.clock.monotonic()
        next_try = start + self.stale_s / 4
        pause = threading.Event()
        while (moment := self.ports.clock.monotonic()) < start + step.timeout_s + 2 * self.stale_s:
            known = view.now(patient=True).step(step.key)
            if known.state not in (State.PENDING, State.OPEN):
                return StepResult(step.key, known.state, "adopted", dict(known.outcome.get("facts", {})))
            if moment >= next_try:
                next_try = moment + self.stale_s / 4
                claim = self.ports.store.transact(
                    lambda tx: tx.claim(plan.incident, step.key, self.owner, stale_s=self.stale_s)
                )
                if claim is not None:
                    try:
                        return self._work(plan, step, claim)
                    except ClaimLost:
                        continue
            pause.wait(0.05)
        return StepResult(step.key, State.PENDING, "another process is still at it")

    def _work(self, plan: Plan, step: PlanStep, claim: Claim) -> StepResult:
        """With the claim in hand: look, act, prove; after an unknown outcome look again."""
        status = self.status(plan.incident)
        known = status.step(step.key)
        if known.state in SETTLED:
            self.ports.store.transact(lambda tx: tx.release(claim))
            return StepResult(step.key, known.state, "finished meanwhile", dict(known.outcome.get("facts", {})))
        action = self.catalog.actions.get(step.action or "")
        now = _Try(step, action, action.Params.model_validate(_short(step.params, known)), claim)
        error = IrflowError(f"{step.key} was not tried", where=step.target or None)
        try:
            context = self._context(plan, step, status, claim.epoch)
        except IrflowError as gone:
            return self._fail(plan, now, gone)
        for _ in range(1 + RETRIES_AFTER_UNKNOWN):
            try:
                proof = self._act(plan, now, context)
                return self._conclude(plan, now, proof)
            except ClaimLost:
                raise
            except OutcomeUnknown as unknown:
                error = unknown
                if context.left() <= 0.05:
                    break
            except IrflowError as failure:
                error = _after(error, failure)
                break
            except Exception as failure:  # noqa: BLE001 - an action's bug must become an outcome, not a silent intent
                error = IrflowError(f"{type(failure).__name__} in {step.action}: {failure}", where=step.target or None)
                break
        return self._fail(plan, now, error)

    def _context(self, plan: Plan, step: PlanStep, status: IncidentStatus, epoch: int) -> Context:
        if not step.target:  # actions without a target read the whole record, so they get one that holds still
            status = fold(self.ports.store.events(plan.incident))
        return self._context_for(step, status, epoch)

    def _context_for(self, step: PlanStep, status: IncidentStatus, epoch: int) -> Context:
        host = self.catalog.inventory.hosts.get(step.target) if step.target else None
        deadline = self.ports.clock.monotonic() + step.timeout_s
        if step.target and host is None:
            raise ConfigurationError(
                "the inventory does not have this host any more, so nothing was done to it", where=step.target,
                hint="Put it back into inventory.yaml and try again",
            )  # fmt: skip
        return Context(status.incident, status, step, host, epoch, self.actor, deadline, self.ports)

    def _act(self, plan: Plan, now: _Try, context: Context) -> Proof:
        urgent = now.step.key in self._urgent(plan)
        with self.slots.hold(Rank.CUT if urgent else Rank.OTHER):
            now.seen = now.action.observe(now.params, context)
            now.changes = now.action.plan(now.params, now.seen)
            if now.changes:
                self._append(
                    plan, now, Kind.STEP_INTENT,
                    {"action": now.action.name, "changes": [one.to_data() for one in now.changes], "seen": now.seen},
                )  # fmt: skip
                now.applied = tuple(now.action.apply(change, context) for change in now.changes)
        with self.slots.hold(Rank.CONFIRM if urgent else Rank.OTHER):
            return now.action.verify(now.params, now.seen, now.applied, context)

    def _urgent(self, plan: Plan) -> frozenset[str]:
        """The steps that cut something off, and those that must come before one."""
        known = self._urgency.get(plan.digest)
        if known is None:
            before = {step.key: step.after for step in plan.steps}
            todo = [step.key for step in plan.steps if step.action and self.catalog.actions.get(step.action).lease]
            found: set[str] = set()
            while todo:
                key = todo.pop()
                if key not in found:
                    found.add(key)
                    todo += before[key]
            known = self._urgency[plan.digest] = frozenset(found)
        return known

    def _conclude(self, plan: Plan, now: _Try, proof: Proof) -> StepResult:
        state = (State.DONE if now.changes else State.NOOP) if proof.passed else State.FAILED
        detail = proof.note if proof.passed else "not proved: " + ", ".join(proof.failed)
        facts = {key: value for key, value in proof.facts.items() if key != "evidence"}
        data: dict[str, Json] = {
            "outcome": state.value, "action": now.action.name, "detail": detail, "facts": facts,
            "checks": [
                {"name": one.name, "passed": one.passed, "before": one.before, "after": one.after}
                for one in proof.checks
            ],
            "leases": list(proof.leases), "ended_leases": list(proof.ended_leases),
        }  # fmt: skip
        evidence = [
            Draft(Kind.EVIDENCE_TAKEN, self.actor, entry, now.step.key, now.step.target, now.claim.epoch)
            for entry in proof.facts.get("evidence", ())
        ]
        self._append(plan, now, Kind.STEP_OUTCOME, data, *evidence, release=True)
        return StepResult(now.step.key, state, detail, facts)

    def _fail(self, plan: Plan, now: _Try, error: IrflowError) -> StepResult:
        """Record a failure; unknown when something may have been applied and nobody could look again."""
        unknown = isinstance(error, OutcomeUnknown) or (bool(now.changes) and isinstance(error, HostError))
        state = State.UNKNOWN if unknown and now.changes else State.FAILED
        data: dict[str, Json] = {
            "outcome": state.value, "action": now.action.name, "detail": str(error), "error": type(error).__name__,
            "facts": {}, "checks": [],
        }  # fmt: skip
        self._append(plan, now, Kind.STEP_OUTCOME, data, release=True)
        return StepResult(now.step.key, state, str(error))

    def _append(
        self, plan: Plan, now: _Try, kind: Kind, data: dict[str, Json], *more: Draft, release: bool = False
    ) -> None:
        draft = Draft(kind, self.actor, data, now.step.key, now.step.target, now.claim.epoch)

        def work(tx: Transaction) -> None:
            tx.append(plan.incident, draft, *more, claim=now.claim)
            if release:
                tx.release(now.claim)

        self.ports.store.transact(work)

    # ------------------------------------------------------------ leases and undo

    def with_step(
        self, plan: Plan, step: PlanStep, use: Callable[[Action[Any], Any, Context], T], *, undo: bool = False
    ) -> T:
        """Call an action outside its step's own run (renew, undo), under the step's claim and a higher epoch.

        Raises ClaimLost when another process is at the step, or when it was taken back meanwhile and this is no undo.
        """
        claim = self.ports.store.transact(
            lambda tx: tx.claim(plan.incident, step.key, self.owner, stale_s=self.stale_s)
        )
        if claim is None:
            raise ClaimLost(f"another process is working on {step.key}", where=step.target or None)
        try:
            status = self.status(plan.incident)
            if not undo and status.step(step.key).state in TAKEN_BACK:
                raise ClaimLost(f"{step.key} was taken back", where=step.target or None)
            action = self.catalog.actions.get(step.action or "")
            context = self._context(plan, step, status, claim.epoch)
            return use(action, action.Params.model_validate(step.params), context)
        finally:
            self.ports.store.transact(lambda tx: tx.release(claim))
