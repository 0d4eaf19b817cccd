"""The journal: events in a hash chain, one chain per incident. Everything else is derived from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import rfc8785

from irflow.core.model import Json, from_text, to_text

GENESIS = "0" * 64
"""`prev` of the first event of a chain."""


class Kind(StrEnum):
    """What an event says happened."""

    INCIDENT_OPENED = "incident.opened"
    INCIDENT_CLOSED = "incident.closed"
    ALERT_RECEIVED = "alert.received"
    ALERT_RESOLVED = "alert.resolved"
    HOST_ADDED = "host.added"
    NOTE = "note"
    PHASE_PLANNED = "phase.planned"
    PHASE_STARTED = "phase.started"
    PHASE_ENDED = "phase.ended"
    PHASE_BLOCKED = "phase.blocked"
    RUN_REQUESTED = "run.requested"
    RUN_STARTED = "run.started"
    RUN_ENDED = "run.ended"
    STEP_INTENT = "step.intent"
    STEP_OUTCOME = "step.outcome"
    STEP_RETRY = "step.retry"
    UNDO_INTENT = "undo.intent"
    UNDO_OUTCOME = "undo.outcome"
    PERSON_ASKED = "person.asked"
    APPROVAL_GIVEN = "approval.given"
    APPROVAL_REFUSED = "approval.refused"
    MANUAL_ANSWERED = "manual.answered"
    LEASE_RENEWED = "lease.renewed"
    LEASE_DRIFTED = "lease.drifted"
    EVIDENCE_TAKEN = "evidence.taken"
    DOCUMENT_WRITTEN = "document.written"
    NOTIFICATION_QUEUED = "notification.queued"
    NOTIFICATION_SENT = "notification.sent"
    NOTIFICATION_FAILED = "notification.failed"
    CLOCK_WARNED = "clock.warned"
    CLOCK_BREACHED = "clock.breached"
    ESCALATED = "escalated"
    HALTED = "halted"
    RESUMED = "resumed"
    CHAIN_ANCHORED = "chain.anchored"
    CHAIN_JOINED = "chain.joined"


@dataclass(frozen=True, slots=True)
class Draft:
    """An event before it has its place in the chain.

    step, target: plan step key and host name, empty where none. actor: `irflow:PROCESS` or `operator:NAME`.
    data: JSON values only, never a secret.
    """

    kind: Kind
    actor: str
    data: dict[str, Json]
    step: str = ""
    target: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One event in its place. hash: SHA-256 of the RFC 8785 JSON of all other fields; prev: the hash before it."""

    incident: str
    seq: int
    at: str
    kind: str
    step: str
    target: str
    epoch: int
    actor: str
    data: dict[str, Json]
    prev: str
    hash: str

    @property
    def moment(self) -> datetime:
        """When it was appended."""
        return from_text(self.at)


def canonical(value: Json) -> bytes:
    """RFC 8785 canonical JSON."""
    return rfc8785.dumps(value)


def digest(value: Json) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _hash(event: Event) -> str:
    return digest({name: getattr(event, name) for name in Event.__slots__ if name != "hash"})


def chain(incident: str, head: tuple[int, str], at: datetime, drafts: Iterable[Draft]) -> tuple[Event, ...]:
    """Put drafts into the chain after `head` = (sequence, hash) of its last event; (0, GENESIS) for a new chain."""
    seq, prev = head
    events: list[Event] = []
    for draft in drafts:
        seq += 1
        bare = Event(
            incident, seq, to_text(at), str(draft.kind), draft.step, draft.target, draft.epoch, draft.actor,
            draft.data, prev, "",
        )  # fmt: skip
        event = Event(
            bare.incident, seq, bare.at, bare.kind, bare.step, bare.target, bare.epoch, bare.actor,
            bare.data, prev, _hash(bare),
        )  # fmt: skip
        events.append(event)
        prev = event.hash
    return tuple(events)


class Damage(StrEnum):
    """What verification can find."""

    FLIPPED = "flipped"
    REMOVED = "removed"
    REORDERED = "reordered"
    CUT_TAIL = "cut_tail"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A signed head copied outside the database. signature: Ed25519 over the canonical JSON of the other fields."""

    incident: str
    seq: int
    hash: str
    at: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of damage. seq: the first event it concerns."""

    damage: Damage
    incident: str
    seq: int
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of verifying one chain. unanchored: sequence numbers not yet covered by an anchor."""

    incident: str
    events: int
    findings: tuple[Finding, ...]
    unanchored: tuple[int, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(incident: str, rows: Sequence[Event], anchors: Sequence[Anchor]) -> Verification:
    """Check one chain in stored order against itself and against its anchors (signatures already checked).

    A flipped byte breaks its own hash; a removed row leaves a gap; a reordered row breaks the sequence; a cut tail
    ends before an anchor; a rewrite is consistent in itself but disagrees with an anchor.
    """
    found: list[Finding] = []

    def note(damage: Damage, seq: int, detail: str) -> None:
        found.append(Finding(damage, incident, seq, detail))

    prev, last = GENESIS, 0
    by_seq = {event.seq: event for event in rows}
    for event in rows:
        if event.hash != _hash(event):
            note(Damage.FLIPPED, event.seq, "its content does not give its hash")
        if event.seq <= last:
            note(Damage.REORDERED, event.seq, f"it stands after event {last}")
        elif event.seq > last + 1:
            note(Damage.REMOVED, last + 1, f"events {last + 1} to {event.seq - 1} are missing")
        elif event.prev != prev:
            note(Damage.REORDERED, event.seq, "it does not point at the event before it")
        prev, last = event.hash, max(last, event.seq)
    for anchor in anchors:
        anchored = by_seq.get(anchor.seq)
        if anchored is None and anchor.seq > last:
            note(Damage.CUT_TAIL, last + 1, f"the chain was signed up to event {anchor.seq} at {anchor.at}")
        elif anchored is not None and anchored.hash != anchor.hash:
            note(Damage.REWRITTEN, anchor.seq, f"another event was signed in its place at {anchor.at}")
    covered = max((anchor.seq for anchor in anchors), default=0)
    return Verification(incident, len(rows), tuple(found), tuple(seq for seq in by_seq if seq > covered))
