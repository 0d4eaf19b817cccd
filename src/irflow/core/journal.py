"""The journal: events in a hash chain, one chain per incident. Everything else is derived from it."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

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
    HOST_ENROLLED = "host.enrolled"
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
    STEP_INHERITED = "step.inherited"
    STEP_RETRY = "step.retry"
    UNDO_REQUESTED = "undo.requested"
    UNDO_INTENT = "undo.intent"
    UNDO_OUTCOME = "undo.outcome"
    PERSON_ASKED = "person.asked"
    APPROVAL_GIVEN = "approval.given"
    APPROVAL_TIMED_OUT = "approval.timed_out"
    APPROVAL_REFUSED = "approval.refused"
    MANUAL_ANSWERED = "manual.answered"
    STEP_DECIDED = "step.decided"
    ANSWER_REJECTED = "answer.rejected"
    FORM_SHOWN = "form.shown"
    PERSON_REMINDED = "person.reminded"
    LEASE_RENEWED = "lease.renewed"
    LEASE_DRIFTED = "lease.drifted"
    LEASE_UNSEEN = "lease.unseen"
    LEASE_SEEN = "lease.seen"
    LEASE_EXPIRING = "lease.expiring"
    LEASE_EXPIRED = "lease.expired"
    EVIDENCE_TAKEN = "evidence.taken"
    DOCUMENT_WRITTEN = "document.written"
    SECRET_CHANGED = "secret.changed"  # noqa: S105 - a kind of event
    NOTIFICATION_QUEUED = "notification.queued"
    NOTIFICATION_SENT = "notification.sent"
    NOTIFICATION_FAILED = "notification.failed"
    CLOCK_WARNED = "clock.warned"
    CLOCK_BREACHED = "clock.breached"
    ESCALATED = "escalated"
    HALTED = "halted"
    RESUMED = "resumed"
    OPERATOR_CHANGED = "operator.changed"
    OPERATOR_PROVED = "operator.proved"
    OPERATOR_REFUSED = "operator.refused"
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
    FORGED_ANCHOR = "forged_anchor"


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


@dataclass(slots=True)
class _Row:
    """A stored row. own: the hash its content gives. place: the sequence number it was written with, if that is known.

    flipped: its content gives its hash under no number.
    """

    event: Event
    own: str
    place: int
    flipped: bool = False

    def gives(self, hash_: str) -> bool:
        """Whether a hash is this event's: a flipped hash is still known by the content, and the other way round."""
        return hash_ in (self.event.hash, self.own)


def verify(incident: str, rows: Sequence[Event], anchors: Sequence[Anchor]) -> Verification:
    """Check one chain against itself and against its anchors (signatures already checked).

    rows: in the order in which they are stored, which is not taken from `seq`.
    A flipped byte: the content does not give the hash. A removed row: a number is missing, also when the rest was
    renumbered to hide it. A reordered row: it gives its hash under another number, or is stored elsewhere. A cut tail:
    the chain ends before an anchor. A rewrite: consistent in itself, but a neighbour or an anchor disagrees.
    """
    placed = _place([_Row(event, _own(event), event.seq) for event in rows])
    by_place: dict[int, _Row] = {}
    for row in placed:
        by_place.setdefault(row.place, row)
    gaps = _gaps(sorted(by_place))
    found = [
        *((Damage.FLIPPED, row.event.seq, "its content does not give its hash") for row in placed if row.flipped),
        *((Damage.REMOVED, first, _span(first, last) + " missing") for first, last in gaps),
        *_moved(placed, gaps),
        *_rewritten(placed, by_place),
        *_signed(by_place, anchors),
    ]
    findings = sorted({Finding(damage, incident, seq, detail) for damage, seq, detail in found}, key=_by_place)
    covered = max((anchor.seq for anchor in anchors), default=0)
    unanchored = tuple(seq for seq in sorted(by_place) if seq > covered)
    return Verification(incident, len(rows), tuple(findings), unanchored)


_Found = tuple[Damage, int, str]
_GUESSES = 16
"""How far other numbers are looked for when a row's neighbours do not tell its own: so much per damaged row."""


def _by_place(finding: Finding) -> tuple[int, str]:
    return finding.seq, finding.damage.value


def _span(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"


def _own(event: Event, seq: int | None = None) -> str:
    """The hash that the content gives, under another number if one is named; empty when damage made it no JSON."""
    try:
        return _hash(event if seq is None else replace(event, seq=seq))
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError):
        return ""


def _place(rows: list[_Row]) -> list[_Row]:
    """Find the number each row was written with: its own, or the one under which its content gives its hash."""
    sound = [row for row in rows if row.own == row.event.hash]
    after = {GENESIS: 1} | {row.event.hash: row.event.seq + 1 for row in sound}
    before = {row.event.prev: row.event.seq - 1 for row in sound}
    damaged = [row for row in rows if row.own != row.event.hash]
    shift = 0
    for index, row in enumerate(damaged):
        event = row.event
        near = (one.event.seq for one in damaged[max(0, index - _GUESSES) : index + _GUESSES])
        next_ones = range(event.seq + 1, event.seq + _GUESSES)
        guesses = (after.get(event.prev), before.get(event.hash), event.seq + shift, *near, *next_ones)
        tried = dict.fromkeys(guess for guess in guesses if guess is not None and guess != event.seq)
        place = next((guess for guess in tried if _own(event, guess) == event.hash), None)
        row.flipped = place is None
        row.place = place if place is not None else after.get(event.prev, event.seq)
        after.setdefault(event.hash, row.place + 1)
        shift = row.place - event.seq
    return rows


def _gaps(places: list[int]) -> list[tuple[int, int]]:
    """(first, last) of each run of missing numbers, from 1 on."""
    return [(low + 1, high - 1) for low, high in pairwise([0, *places]) if high > low + 1]


def _moved(rows: list[_Row], gaps: list[tuple[int, int]]) -> Iterator[_Found]:
    """Rows that bear another number than they were written with, or are stored out of order."""
    moved = {row.place: row.event.seq for row in rows if not row.flipped and row.place != row.event.seq}
    for place, seq in moved.items():
        missing = sum(last - first + 1 for first, last in gaps if last < place)
        if seq == place - missing:
            continue  # the removal before it says it all
        if seq in moved or place in moved.values():
            yield Damage.REORDERED, seq, f"it was written as event {place}"
        else:
            yield Damage.FLIPPED, seq, f"its number was changed: it was written as event {place}"
    stored = dict.fromkeys(row.place for row in rows if not row.flipped)
    for place in _displaced(list(stored)):
        yield Damage.REORDERED, place, "it is not stored where it was written"


def _displaced(places: list[int]) -> list[int]:
    """What has to be taken out so that the rest rises: all but a longest rising subsequence."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for index, place in enumerate(places):
        length = bisect_left(tails, place)
        before.append(ends[length - 1] if length else -1)
        tails[length : length + 1] = [place]
        ends[length : length + 1] = [index]
    kept: set[int] = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        kept.add(index)
        index = before[index]
    return [place for index, place in enumerate(places) if index not in kept]


def _rewritten(rows: list[_Row], by_place: dict[int, _Row]) -> Iterator[_Found]:
    """Events that are right in themselves but not the ones that were there."""
    for row in rows:
        if by_place[row.place] is not row:
            yield Damage.REWRITTEN, row.place, "two events claim its place"
    for place, row in by_place.items():
        before = by_place.get(place - 1)
        if row.flipped or (before is not None and before.flipped):
            continue
        if place == 1 and row.event.prev != GENESIS:
            yield Damage.REWRITTEN, 1, "it does not point at the beginning of a chain"
        elif before is not None and not before.gives(row.event.prev):
            yield Damage.REWRITTEN, place - 1, f"event {place} points at another event in its place"


def _signed(by_place: dict[int, _Row], anchors: Sequence[Anchor]) -> Iterator[_Found]:
    """What the anchors say against the chain."""
    last = max(by_place, default=0)
    ordered = sorted(anchors, key=lambda anchor: anchor.seq)
    if ordered and ordered[-1].seq > last:
        yield Damage.CUT_TAIL, last + 1, f"the chain was signed up to event {ordered[-1].seq} at {ordered[-1].at}"
    for anchor in ordered:
        row = by_place.get(anchor.seq)
        if row is not None and not row.flipped and not row.gives(anchor.hash):
            yield Damage.REWRITTEN, anchor.seq, f"another event was signed in its place at {anchor.at}"
            return
