"""Leases: when to look at one again, what a look found, and when people must be told. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from irflow.core.states import TAKEN_BACK, IncidentStatus, Lease

CHECK_EVERY = timedelta(seconds=60)
"""How often a lease's target is looked at for drift (DESIGN rule 6)."""
SLOWEST = timedelta(minutes=10)
"""A target that cannot be looked at is tried more and more rarely, but at least this often."""
RENEW_AT = 0.5
WARN_AT = 0.75
"""Shares of its time after which a lease is renewed (DESIGN rule 6), and people are warned that it was not."""
QUIET = timedelta(minutes=10)
"""The same drift of the same lease is journalled each time, but people are told of it at most this often."""


class Finding(StrEnum):
    """How a lease's target was found. The first is as it should be; `busy` and `unreachable` say nothing about it."""

    AS_RECORDED = "as recorded"
    REBOOTED = "rebooted"
    RULES_CHANGED = "rules changed"
    GONE = "gone"
    LEAKING = "leaking"
    EXPIRED_EARLY = "expired early"
    EXPIRED = "expired"
    CHANGED = "changed"
    UNREACHABLE = "unreachable"
    BUSY = "busy"

    @property
    def drift(self) -> bool:
        """Whether somebody or something undid what irflow had left."""
        return self not in (Finding.AS_RECORDED, Finding.UNREACHABLE, Finding.BUSY)


_BY_DRIFT = {
    "absent": Finding.GONE,
    "gone": Finding.GONE,
    "rules_changed": Finding.RULES_CHANGED,
    "rebooted": Finding.REBOOTED,
    "leaking": Finding.LEAKING,
}


def finding(drift: str, lease: Lease, now: datetime) -> Finding:
    """What an action's fact `drift` says of a lease; empty for a target that was as it had been left."""
    if drift == "expired":
        return Finding.EXPIRED if now >= lease.until else Finding.EXPIRED_EARLY
    return _BY_DRIFT.get(drift, Finding.CHANGED) if drift else Finding.AS_RECORDED


def kept(status: IncidentStatus) -> tuple[Lease, ...]:
    """The leases that are to be kept, by target: those in force, and those that ran out against our will.

    Nobody keeps the leases of a closed incident, of a step that a person wants gone, or of one that is in force only
    because nobody answered in time.
    """
    if not status.open:
        return ()
    every = (*list(status.leases.values()), *list(status.expired.values()))
    steps = {one.step: status.step(one.step) for one in every}
    found = [one for one in every if steps[one.step].state not in TAKEN_BACK and steps[one.step].short_s is None]
    return tuple(sorted(found, key=lambda one: (one.target, one.kind)))


def standing(status: IncidentStatus, lease: Lease, now: datetime) -> str:
    """How a lease stands, in a word or two for lists: in force, overdue, unreachable, expired."""
    if (lease.kind, lease.target) in status.expired:
        return "expired"
    if lease.unseen_since is not None:
        return "unreachable"
    return "in force" if lease.until > now else "overdue"


def ends_by_itself(status: IncidentStatus, lease: Lease) -> bool:
    """Whether the target opens without us when the time is over, as a kernel does; some hooks know no time."""
    return bool(status.step(lease.step).outcome.get("facts", {}).get("expires") != "irflow")


def to_end(status: IncidentStatus, now: datetime) -> tuple[Lease, ...]:
    """The leases whose time is over, that nobody agreed to, and that nobody but irflow ends."""
    return tuple(
        one
        for one in list(status.leases.values())
        if status.step(one.step).short_s is not None and ran_out(one, now) and not ends_by_itself(status, one)
    )


def _moment(lease: Lease, share: float) -> datetime:
    return lease.granted_at + share * timedelta(seconds=lease.seconds)


def renewable(lease: Lease, now: datetime) -> bool:
    """Whether its half-life is over."""
    return now >= _moment(lease, RENEW_AT)


def first_look(lease: Lease) -> datetime:
    """When a lease that this process never looked at is due."""
    return min(_moment(lease, RENEW_AT), lease.granted_at + CHECK_EVERY)


def next_look(lease: Lease, failures: int, now: datetime) -> datetime:
    """When to look again. failures: looks in a row that told nothing.

    Each failure doubles the wait, up to SLOWEST; but nothing is waited past half-life, the warning, and the end.
    """
    if failures == 0 and not renewable(lease, now):
        return min(now + CHECK_EVERY, _moment(lease, RENEW_AT))
    wait = min(CHECK_EVERY * (1 << min(max(0, failures - 1), 10)), SLOWEST)
    marks = (_moment(lease, RENEW_AT), _moment(lease, WARN_AT), lease.until)
    return min([now + wait, *(mark for mark in marks if mark > now)])


def to_warn(lease: Lease, now: datetime) -> bool:
    """Whether people must hear now that a lease runs out and could not be renewed."""
    return not lease.warned and _moment(lease, WARN_AT) <= now < lease.until


def ran_out(lease: Lease, now: datetime) -> bool:
    """Whether a lease's time is over."""
    return now >= lease.until


def to_tell(lease: Lease, found: Finding, now: datetime) -> bool:
    """Whether people are told of a drift: unless they were told of the same one a short while ago."""
    return lease.drift != found or lease.told_at is None or now - lease.told_at >= QUIET
