"""One look at what a step holds in force on its target: prolonged or cut again where needed, journalled, told."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from irflow.core import leases as rules
from irflow.core.action import Action, Change, Context, Proof
from irflow.core.engine import Engine
from irflow.core.errors import ClaimLost, IrflowError
from irflow.core.journal import Draft, Kind
from irflow.core.leases import Finding
from irflow.core.model import Json, from_text, to_text
from irflow.core.ports import Transaction
from irflow.core.status import IncidentStatus, Lease, fold
from irflow.responder.reconcile import escalate

_EVIDENCE = ("drift", "evidence")
"""Facts of a renewal that are told in other events."""


@dataclass(frozen=True)
class Looked:
    """How one lease was found, and what was done about it. detail: why it was not seen, or is not in force again."""

    lease: Lease
    finding: Finding
    done: str = ""
    detail: str = ""
    until: datetime | None = None
    in_force: bool = True


@dataclass(frozen=True)
class LeaseLook:
    """Looks at steps. actor: on whose word; patience_s: how long to wait while another process is at the step."""

    engine: Engine
    actor: str
    patience_s: float = 0.0

    def look(
        self, status: IncidentStatus, held: Sequence[Lease], *, renew: bool = False, for_s: float | None = None
    ) -> tuple[Looked, ...]:
        """Look at the leases of one step now.

        renew: prolong them also where nothing is wrong. for_s: seconds that a person wants of each renewal from now on.
        """
        incident, key = status.incident.id, held[0].step
        asked_s = for_s or held[0].asked_s

        def use(action: Action[Any], params: Any, context: Context) -> Proof | None:
            if asked_s is not None and "lease" in type(params).model_fields:
                params = params.model_copy(update={"lease": asked_s})
            if renew or action.plan(params, action.observe(params, context)):
                return action.renew(params, context)
            return None

        try:
            proof = self._with_step(status, key, use)
        except ClaimLost as error:
            return tuple(self._unknown(incident, lease, Finding.BUSY, str(error)) for lease in held)
        except IrflowError as error:
            return tuple(self._unknown(incident, lease, Finding.UNREACHABLE, str(error)) for lease in held)
        if proof is None:
            return tuple(self._as_recorded(incident, lease) for lease in held)
        return self._conclude(incident, held, proof, for_s)

    def _with_step(self, status: IncidentStatus, key: str, use: Any) -> Proof | None:
        """Under the step's claim; whoever is at it is waited for."""
        plan = status.plan(key.partition("/")[0])
        if plan is None:
            raise IrflowError(f"no plan has {key}", hint="Release it by hand: irflow run release-host")
        clock = self.engine.ports.clock
        deadline = clock.monotonic() + self.patience_s
        while True:
            try:
                proof: Proof | None = self.engine.with_step(plan, status.plan_step(key), use)
                return proof
            except ClaimLost:
                if clock.monotonic() >= deadline:
                    raise
                threading.Event().wait(0.1)

    # ------------------------------------------------------------ what was found

    def _as_recorded(self, incident: str, lease: Lease) -> Looked:
        if lease.unseen_since is not None:
            data: dict[str, Json] = {"kind": lease.kind, "finding": Finding.AS_RECORDED.value}
            self._append(incident, lease, Kind.LEASE_SEEN, data)
        return Looked(lease, Finding.AS_RECORDED, until=lease.until)

    def _conclude(self, incident: str, held: Sequence[Lease], proof: Proof, for_s: float | None) -> tuple[Looked, ...]:
        """A renewal was tried: journal what it found, what is in force now, and tell people of drift."""
        granted = {str(one["kind"]): one for one in proof.leases}
        facts = {name: value for name, value in proof.facts.items() if name not in _EVIDENCE}
        found: list[Looked] = []
        now = self.engine.ports.clock.now()
        wrong = f"not proved: {', '.join(proof.failed)}" if not proof.passed else ""
        for lease in held:
            drift = proof.facts.get("drift") or ""
            finding = rules.finding(str(drift.get(lease.kind, "") if isinstance(drift, dict) else drift), lease, now)
            if wrong and finding is Finding.AS_RECORDED:
                finding = Finding.CHANGED
            grant = granted.get(lease.kind)
            until = from_text(str(grant["until"])) if grant else lease.until
            again = "cut again" if lease.kind.startswith("isolation") else "in force again"
            done = (again if finding.drift else "renewed") if grant and proof.passed else ""
            found.append(Looked(lease, finding, done, wrong, until, in_force=bool(grant) and proof.passed))
        self._record(incident, found, granted, {"facts": facts, **({"asked_s": for_s} if for_s else {})})
        return tuple(found)

    def _record(
        self, incident: str, found: list[Looked], granted: dict[str, dict[str, Json]], more: dict[str, Json]
    ) -> None:
        def work(tx: Transaction) -> None:
            status = fold(tx.events(incident))
            for one in found:
                if one.finding.drift:
                    self._tell_drift(tx, status, one)
                grant = granted.get(one.lease.kind)
                if grant is not None:
                    tx.append(incident, self._draft(one.lease, Kind.LEASE_RENEWED, {**grant, **more}))

        self.engine.ports.store.transact(work)

    def _tell_drift(self, tx: Transaction, status: IncidentStatus, one: Looked) -> None:
        lease, now = one.lease, self.engine.ports.clock.now()
        known = status.leases.get((lease.kind, lease.target), lease)
        tell = rules.to_tell(known, one.finding, now)
        if not tell and not one.done:
            return  # still the same, and nothing could be done about it
        reason = f"{one.finding}; {one.done or 'NOT in force again'}" + (f": {one.detail}" if one.detail else "")
        data: dict[str, Json] = {
            "kind": lease.kind, "finding": one.finding.value, "done": one.done, "reason": reason, "told": tell,
        }  # fmt: skip
        tx.append(status.incident.id, self._draft(lease, Kind.LEASE_DRIFTED, data))
        if tell:
            escalate(self.engine, tx, status, f"{lease.kind} of {lease.target}: {reason}")

    # ------------------------------------------------------------ what could not be found out

    def _unknown(self, incident: str, lease: Lease, finding: Finding, reason: str) -> Looked:
        """Nobody could look: people hear of it once, once more before the lease runs out, and when it has."""
        ran_out = self.engine.ports.store.transact(partial(self._tell_unknown, incident, lease, finding, reason))
        return Looked(lease, finding, detail=reason, until=lease.until, in_force=not ran_out)

    def _tell_unknown(self, incident: str, lease: Lease, finding: Finding, reason: str, tx: Transaction) -> bool:
        """Journal what is new, and tell. Returns whether the lease has run out."""
        status, now = fold(tx.events(incident)), self.engine.ports.clock.now()
        place = lease.kind, lease.target
        known = status.leases.get(place)
        if known is None:
            return place in status.expired
        data: dict[str, Json] = {"kind": lease.kind, "until": to_text(known.until), "reason": reason}
        what = f"{lease.kind} of {lease.target}"
        if finding is Finding.UNREACHABLE and known.unseen_since is None:
            tx.append(incident, self._draft(lease, Kind.LEASE_UNSEEN, data))
            escalate(self.engine, tx, status, f"{what} cannot be looked at: {reason}")
        if rules.to_warn(known, now):
            tx.append(incident, self._draft(lease, Kind.LEASE_EXPIRING, data))
            end = f"runs out at {known.until:%H:%M:%S}Z"
            if not rules.ends_by_itself(status, known):
                end = f"should run out at {known.until:%H:%M:%S}Z, but only irflow can end it,"
            escalate(self.engine, tx, status, f"{what} {end} and could not be renewed: {reason}")
        if rules.ran_out(known, now) and rules.ends_by_itself(status, known):
            tx.append(incident, self._draft(lease, Kind.LEASE_EXPIRED, data))
            escalate(self.engine, tx, status, f"{what} has run out, so the target may be open again: {reason}")
            return True
        return False

    # ------------------------------------------------------------ the end of a short lease that nothing else ends

    def end(self, status: IncidentStatus, lease: Lease) -> Looked:
        """Open what nobody agreed to in time and what no kernel opens by itself; the question is open again then.

        It is no undo: a later yes cuts the target off again.
        """
        incident = status.incident.id
        self.engine.ports.store.transact(partial(self._tell_end, incident, lease))
        try:
            proof = self._with_step(status, lease.step, _open)
        except IrflowError as error:
            return self._unknown(incident, lease, Finding.UNREACHABLE, str(error))
        if proof is None or not proof.passed:
            failed = ", ".join(proof.failed) if proof else "the journal does not say what to open"
            return self._unknown(incident, lease, Finding.UNREACHABLE, f"it could not be opened: {failed}")
        why = "nobody agreed to it in time; it was opened again, proved"

        def ended(tx: Transaction) -> None:
            data: dict[str, Json] = {"kind": lease.kind, "until": to_text(lease.until), "reason": why}
            tx.append(incident, self._draft(lease, Kind.LEASE_EXPIRED, data))
            escalate(self.engine, tx, fold(tx.events(incident)), f"the {lease.kind} of {lease.target} has ended: {why}")

        self.engine.ports.store.transact(ended)
        return Looked(lease, Finding.EXPIRED, "opened", why, lease.until, in_force=False)

    def _tell_end(self, incident: str, lease: Lease, tx: Transaction) -> None:
        """The intent, once."""
        known = fold(tx.events(incident)).leases.get((lease.kind, lease.target))
        if known is not None and not known.warned:
            why = "its time is over and nobody agreed to more: it is being opened"
            data: dict[str, Json] = {"kind": lease.kind, "until": to_text(lease.until), "reason": why}
            tx.append(incident, self._draft(lease, Kind.LEASE_EXPIRING, data))

    # ------------------------------------------------------------ writing

    def _draft(self, lease: Lease, kind: Kind, data: dict[str, Json]) -> Draft:
        return Draft(kind, self.actor, data, lease.step, lease.target)

    def _append(self, incident: str, lease: Lease, kind: Kind, data: dict[str, Json]) -> None:
        self.engine.ports.store.transact(lambda tx: tx.append(incident, self._draft(lease, kind, data)))


def _open(action: Action[Any], _params: Any, context: Context) -> Proof | None:
    """Take back the last change that the step meant to make; None when the journal knows of none."""
    intended = context.status.step(context.step.key).intended
    return action.undo(Change.from_data(intended[-1]), context) if intended else None
