"""What is watched while an incident is open: its clocks, its leases, the signatures over its journal."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from irflow.core.action import Action, Context, Proof
from irflow.core.clocks import Clock, clocks
from irflow.core.engine import Engine
from irflow.core.errors import ClaimLost, IrflowError
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json, to_text
from irflow.core.ports import Transaction
from irflow.core.status import IncidentStatus, Lease, fold
from irflow.responder.reconcile import escalate

log = logging.getLogger(__name__)

CHECK_EVERY = timedelta(seconds=60)
"""How often a lease's target is looked at for drift (DESIGN rule 6)."""


def watch_clocks(engine: Engine, incident: str) -> None:
    """Record the marks that clocks passed; at 100 % it is a breach, and people are told."""
    status, now = engine.status(incident), engine.ports.clock.now()
    for clock in clocks(status, now):
        for mark in clock.due_marks(now):
            if (clock.name, mark) not in status.clock_marks:
                engine.ports.store.transact(partial(_mark, engine, incident, clock, mark))


def _mark(engine: Engine, incident: str, clock: Clock, mark: str, tx: Transaction) -> None:
    status = fold(tx.events(incident))
    if (clock.name, mark) in status.clock_marks:
        return
    breach = mark == "100"
    data: dict[str, Json] = {
        "clock": clock.name, "mark": mark, "deadline": to_text(clock.deadline), "human_s": clock.human_s,
        "machine_s": clock.machine_s,
    }  # fmt: skip
    tx.append(incident, Draft(Kind.CLOCK_BREACHED if breach else Kind.CLOCK_WARNED, engine.actor, data))
    if breach:
        escalate(engine, tx, status, f"the {clock.name} deadline has passed")


def anchor(engine: Engine, incident: str, signed: dict[str, int]) -> None:
    """Sign the head after a phase ended or the incident closed. signed: last signed sequence number by incident."""
    status = engine.status(incident)
    if incident not in signed:
        signed[incident] = max((one.seq for one in engine.ports.anchors.load(incident)), default=0)
    due = max([status.closed_seq, *(phase.ended_seq for phase in status.phases.values())])
    if due > signed[incident]:
        head = engine.ports.store.events(incident, due - 1)[-1]
        engine.ports.anchors.sign(incident, head.seq, head.hash, head.at)
        signed[incident] = head.seq


class LeaseKeeper:
    """Renews leases at half-life and cuts again where a target drifted. Hosts are looked at in parallel."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next: dict[tuple[str, str, str], datetime] = {}
        self._busy: set[tuple[str, str, str]] = set()
        self._pool = ThreadPoolExecutor(engine.slots.count, thread_name_prefix="lease")

    def keep(self, incident: str) -> None:
        """Start what is due for an incident; returns at once."""
        status, now = self._engine.status(incident), self._engine.ports.clock.now()
        for lease in list(status.leases.values()):
            key = (incident, lease.kind, lease.target)
            half = lease.granted_at + timedelta(seconds=lease.seconds / 2)
            due = min(half, self._next.get(key, lease.granted_at + CHECK_EVERY))
            if now >= due and key not in self._busy:
                self._busy.add(key)
                self._next[key] = now + CHECK_EVERY
                self._pool.submit(self._one, status, lease, key, now >= half)

    def _one(self, status: IncidentStatus, lease: Lease, key: tuple[str, str, str], renew: bool) -> None:
        try:
            self._look(status, lease, renew)
        except ClaimLost:
            log.info("another process is working on %s", lease.step)
        except IrflowError as error:
            self._drifted(status, lease, str(error))
        except Exception:  # a thread's last line
            log.exception("lease on %s", lease.target)
        finally:
            self._busy.discard(key)

    def _look(self, status: IncidentStatus, lease: Lease, renew: bool) -> None:
        step = status.plan_step(lease.step)
        plan = status.plan(step.key.partition("/")[0])
        if plan is None:
            return

        def use(action: Action[Any], params: Any, context: Context) -> Proof | None:
            if renew or action.plan(params, action.observe(params, context)):
                return action.renew(params, context)
            return None

        proof = self._engine.with_step(plan, step, use)
        if proof is None:
            return
        drift = proof.facts.get("drift")
        if drift or not proof.passed:
            self._drifted(status, lease, str(drift or f"not proved: {', '.join(proof.failed)}"))
        drafts = [Draft(Kind.LEASE_RENEWED, self._engine.actor, one, lease.step, lease.target) for one in proof.leases]
        self._engine.ports.store.transact(lambda tx: tx.append(status.incident.id, *drafts))

    def _drifted(self, status: IncidentStatus, lease: Lease, reason: str) -> None:
        def work(tx: Transaction) -> None:
            data: dict[str, Json] = {"kind": lease.kind, "reason": reason}
            tx.append(status.incident.id, Draft(Kind.LEASE_DRIFTED, self._engine.actor, data, lease.step, lease.target))
            escalate(self._engine, tx, status, f"{lease.kind} on {lease.target}: {reason}")

        self._engine.ports.store.transact(work)

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)
