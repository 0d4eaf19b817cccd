"""Taking in a request: message, alerts, incidents and the outbox in one transaction, before anybody is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ulid import ULID

from irflow.core.alert import Alert, AlertStatus, Trust
from irflow.core.incident import TARGETS, Incident, correlates
from irflow.core.inventory import Inventory
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.playbook import Playbook
from irflow.core.ports import Message, Transaction
from irflow.core.severity import CHANNELS
from irflow.intake.correlate import Fit, Sighting, fit, is_worse, sight
from irflow.intake.parcel import Parcel, Reading
from irflow.intake.refusal import Conflicting
from irflow.intake.source import Source

ACTOR = "irflow:web"
ACCEPTED, QUARANTINED = "accepted", "quarantined"
MOST_TARGETS = 1000
"""Most addresses, accounts, hashes and secrets of one incident, each; more stay in their alerts."""


@dataclass(frozen=True)
class Request:
    """One authentic request. trust: of its sender by this way."""

    source: Source
    message_id: str
    body: bytes
    received_at: datetime
    trust: Trust

    @property
    def sha256(self) -> str:
        """Of the raw body, in hex."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class Receipt:
    """What is answered. outcome: `accepted` or `quarantined`. work: something was put into the outbox."""

    outcome: str
    response: Json
    work: bool = False


def quarantine(tx: Transaction, request: Request, reason: str) -> Receipt:
    """Keep a request that was not understood, as it came. Raises Conflicting."""
    return _earlier(tx, request) or _keep(tx, request, Receipt(QUARANTINED, {"error": reason}))


def accept(
    tx: Transaction, request: Request, parcel: Parcel, inventory: Inventory, playbooks: tuple[Playbook, ...]
) -> Receipt:
    """Take in all alerts of a request, or give the answer of its first time. Raises Conflicting.

    Each alert is a repeat of one that is firing (same source and fingerprint), belongs to an open incident about one
    of its hosts, or opens an incident. Alerts of one request with the same type and severity that belong to none open
    one incident together. A resolved alert is recorded where it was firing; it never closes anything.
    """
    earlier = _earlier(tx, request)
    if earlier is not None:
        return earlier
    desk = _Desk(tx, request)
    desk.seen = [
        sight(_alert(request, reading), inventory, playbooks, drill=request.source.drill) for reading in parcel.readings
    ]
    rows = [desk.settle(position) for position in range(len(desk.seen))]
    if parcel.left_out:
        text = f"The source left {parcel.left_out} more alerts of this group out of its message"
        for incident in desk.touched:
            tx.append(incident, Draft(Kind.NOTE, ACTOR, {"text": text, "left_out": parcel.left_out}))
    for incident in desk.respond:
        tx.enqueue("respond", {"incident": incident})
    return _keep(tx, request, Receipt(ACCEPTED, {"alerts": rows}, bool(desk.respond)))


def _earlier(tx: Transaction, request: Request) -> Receipt | None:
    message = tx.message(request.source.name, request.message_id)
    if message is None:
        return None
    if message.body_sha256 != request.sha256:
        raise Conflicting("this message id was used before, with another body", hint="Send it under a new id")
    return Receipt(message.outcome, message.response)


def _keep(tx: Transaction, request: Request, receipt: Receipt) -> Receipt:
    tx.save_message(
        Message(
            request.source.name, request.message_id, request.sha256, request.body, request.received_at,
            receipt.outcome, receipt.response,
        )
    )  # fmt: skip
    return receipt


def _alert(request: Request, reading: Reading) -> Alert:
    return Alert(
        id=str(ULID()), source=request.source.name, message_id=request.message_id, received_at=request.received_at,
        raw_sha256=request.sha256, trust=request.trust, **reading.model_dump(),
    )  # fmt: skip


@dataclass
class _Desk:
    """One request being settled. touched: incidents it reached; respond: those for which there is work to do."""

    tx: Transaction
    request: Request
    seen: list[Sighting] = field(default_factory=list)
    opened: dict[tuple[str, str], str] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    respond: dict[str, None] = field(default_factory=dict)
    _known: dict[str, Incident] = field(default_factory=dict)
    _read: bool = False

    @property
    def open(self) -> dict[str, Incident]:
        """Open incidents by id, oldest first; read when first needed, because there may be thousands."""
        if not self._read:
            self._known = {one.id: one for one in self.tx.open_incidents()} | self._known
            self._read = True
        return self._known

    def _incident(self, id_: str) -> Incident:
        return self._known.get(id_) or self.open[id_]

    def settle(self, position: int) -> Json:
        """Record one alert where it belongs. Returns its row of the answer."""
        seen = self.seen[position]
        alert = seen.alert
        firing = self.tx.firing(alert.source, alert.fingerprint)
        duplicate_of = None
        if alert.status is AlertStatus.RESOLVED:
            incident = firing[1] if firing else None
            if firing:
                self._note_resolved(firing[1], alert, firing[0])
        else:
            incident, how, duplicate_of = self._place(seen, firing)
            if incident is None:
                incident, how = self._start(position), Fit.TELL
            self._note_received(incident, seen, how, duplicate_of)
        self.tx.save_alert(alert, incident, duplicate_of)
        if incident:
            self.touched[incident] = None
        return {"alert_id": alert.id, "incident_id": incident, "duplicate_of": duplicate_of}

    def _place(self, seen: Sighting, firing: tuple[str, str] | None) -> tuple[str | None, Fit, str | None]:
        """(incident, how it fits, alert it repeats); no incident: it must open one."""
        if firing is not None and firing[1] in self.open:
            how = fit(self.open[firing[1]], seen)
            if how is not None:
                return firing[1], how, firing[0]
        for incident in self.open.values() if seen.hosts else ():
            how = fit(incident, seen) if correlates(incident, seen.alert, seen.hosts) else None
            if how is not None:
                return incident.id, how, None
        return self.opened.get(seen.group), Fit.ACT, None

    def _start(self, position: int) -> str:
        """Open an incident for an alert and for all that follow in its group and belong nowhere else."""
        first = self.seen[position]
        group = [first, *(one for one in self.seen[position + 1 :] if self._belongs(one, first))]
        incident = Incident(
            id=str(ULID()), type=first.alert.type, severity=first.alert.severity, trust=first.alert.trust,
            title=first.alert.title, playbook=first.playbook, detected_at=self.request.received_at, drill=first.drill,
            hosts=_union(one.hosts for one in group), unknown_hosts=_union(one.unknown for one in group)[:1000],
            addresses=_union(one.addresses for one in group)[:MOST_TARGETS],
            accounts=_union(one.accounts for one in group)[:MOST_TARGETS],
            hashes=_union(one.hashes for one in group)[:MOST_TARGETS],
            secrets=_union(one.secrets for one in group)[:MOST_TARGETS],
        )  # fmt: skip
        opened = self.tx.open_incident(incident, ACTOR)
        self.opened[first.group] = opened.id
        self._known[opened.id] = opened
        self.respond[opened.id] = None
        return opened.id

    def _belongs(self, one: Sighting, first: Sighting) -> bool:
        if one.group != first.group or one.alert.status is not AlertStatus.FIRING:
            return False
        firing = self.tx.firing(one.alert.source, one.alert.fingerprint)
        return self._place(one, firing)[0] is None

    def _note_received(self, incident_id: str, seen: Sighting, how: Fit, duplicate_of: str | None) -> None:
        """Append the alert and, where it may act, the targets it adds and the severity it raises."""
        data: dict[str, Json] = {**seen.alert.model_dump(mode="json"), "duplicate_of": duplicate_of}
        drafts = [Draft(Kind.ALERT_RECEIVED, ACTOR, data)]
        before = after = self._incident(incident_id)
        if how is Fit.ACT:
            after = _with_targets(before, seen)
            if after is not before:
                drafts.append(Draft(Kind.HOST_ADDED, ACTOR, _added(before, after, seen.alert)))
            if is_worse(seen.alert.severity, before.severity):
                after = after.model_copy(update={"severity": seen.alert.severity})
                drafts.append(Draft(Kind.ESCALATED, ACTOR, _raised(before, after, seen.alert)))
        self.tx.append(incident_id, *drafts)
        if after is not before:
            self._changed(before, after)

    def _changed(self, before: Incident, after: Incident) -> None:
        self.tx.index_incident(after, closed=False)
        self._known[after.id] = after
        self.respond[after.id] = None
        if after.severity is not before.severity:
            title = f"{after.number}: raised from {before.severity.value} to {after.severity.value}"
            payload: dict[str, Json] = {
                "incident": after.id, "channels": list(CHANNELS[after.severity]), "title": title, "body": title,
            }  # fmt: skip
            self.tx.enqueue("notify", payload)

    def _note_resolved(self, incident: str, alert: Alert, resolves: str) -> None:
        data: dict[str, Json] = {**alert.model_dump(mode="json"), "resolves": resolves}
        self.tx.append(incident, Draft(Kind.ALERT_RESOLVED, ACTOR, data))


def _union(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for part in parts for one in part))


def _with_targets(incident: Incident, seen: Sighting) -> Incident:
    """The incident with the alert's targets; the same object when they are all there, or no more of them fit."""
    update: dict[str, tuple[str, ...]] = {}
    for kind, new in seen.new_to(incident).items():
        known: tuple[str, ...] = getattr(incident, kind)
        fitting = new if kind == "hosts" else new[: max(0, MOST_TARGETS - len(known))]
        if fitting:
            update[kind] = (*known, *fitting)
    return incident.model_copy(update=update) if update else incident


def _added(before: Incident, after: Incident, alert: Alert) -> dict[str, Json]:
    new = {kind: [one for one in getattr(after, kind) if one not in getattr(before, kind)] for kind in TARGETS}
    return {**{kind: found for kind, found in new.items() if found or kind == "hosts"}, "alert": alert.id}


def _raised(before: Incident, after: Incident, alert: Alert) -> dict[str, Json]:
    """The data of an `escalated` event that core.status reads a new severity from."""
    was, severity = before.severity.value, after.severity.value
    reason = f"an alert raised it from {was} to {severity}"
    return {"reason": reason, "phase": None, "alert": alert.id, "was": was, "severity": severity}
