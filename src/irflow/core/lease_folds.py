"""What the journal says of leases: granted, prolonged, not as left, unseen, about to run out, run out, ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from irflow.core.journal import Event, Kind
from irflow.core.model import Json, from_text
from irflow.core.states import IncidentStatus, Lease, State


def grant(status: IncidentStatus, event: Event, lease: dict[str, Json]) -> None:
    """A lease is in force from now on; one that had run out is in force again."""
    place = lease["kind"], event.target
    before = status.leases.get(place) or status.expired.pop(place, None)
    same = before is not None and before.step == event.step
    status.leases[place] = Lease(
        lease["kind"], event.target, from_text(lease["until"]), event.step, float(lease["seconds"]), event.moment,
        seen_at=event.moment,
        asked_s=lease.get("asked_s") or (before.asked_s if before and same else None),
        drift=before.drift if before and same else "",
        drifted_at=before.drifted_at if before and same else None,
        told_at=before.told_at if before and same else None,
    )  # fmt: skip


def end(status: IncidentStatus, kind: str, target: str) -> None:
    """A lease is over: what it stood for was taken away."""
    status.leases.pop((kind, target), None)
    status.expired.pop((kind, target), None)


def end_of_step(status: IncidentStatus, step: str) -> None:
    """All leases of a step are over."""
    for lease in [one for one in (*status.leases.values(), *status.expired.values()) if one.step == step]:
        end(status, lease.kind, lease.target)


def _renewed(status: IncidentStatus, event: Event) -> None:
    """Prolonged, or cut again: what was found then is what is known of the step from now on."""
    grant(status, event, event.data)
    step = status.steps.get(event.step)
    if step is not None and event.data.get("facts"):
        facts = {**step.outcome.get("facts", {}), **event.data["facts"]}
        step.outcome = {**step.outcome, "facts": facts}


def _changed(status: IncidentStatus, event: Event, **fields: Any) -> None:
    place = event.data["kind"], event.target
    for leases in (status.leases, status.expired):
        if place in leases:
            leases[place] = replace(leases[place], **fields)


def _drifted(status: IncidentStatus, event: Event) -> None:
    drift = event.data.get("finding") or event.data.get("reason", "")
    told = {"told_at": event.moment} if event.data.get("told", True) else {}
    _changed(status, event, drift=drift, drifted_at=event.moment, seen_at=event.moment, unseen_since=None, **told)


def _unseen(status: IncidentStatus, event: Event) -> None:
    _changed(status, event, unseen_since=event.moment)


def _seen(status: IncidentStatus, event: Event) -> None:
    _changed(status, event, unseen_since=None, seen_at=event.moment)


def _expiring(status: IncidentStatus, event: Event) -> None:
    _changed(status, event, warned=True)


def _expired(status: IncidentStatus, event: Event) -> None:
    place = event.data["kind"], event.target
    lease = status.leases.pop(place, None)
    if lease is None:
        return
    step = status.steps.get(lease.step)
    if step is not None and step.short_s is not None:  # as it was meant to: the question is open again, unless answered
        step.state, step.short_s = State.AWAITING if step.short_for else State.REFUSED, None
    else:
        status.expired[place] = lease


LEASE_FOLDS: dict[str, Callable[[IncidentStatus, Event], None]] = {
    Kind.LEASE_RENEWED: _renewed,
    Kind.LEASE_DRIFTED: _drifted,
    Kind.LEASE_UNSEEN: _unseen,
    Kind.LEASE_SEEN: _seen,
    Kind.LEASE_EXPIRING: _expiring,
    Kind.LEASE_EXPIRED: _expired,
}
