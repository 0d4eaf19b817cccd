"""The port of the database: the journal, the claims, the runs, the outbox. One transaction makes a change durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from irflow.core.alert import Alert
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Event
from irflow.core.model import Json

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """The right to work on a step. epoch: larger than every earlier one of this installation, about now in ms."""

    incident: str
    step: str
    owner: str
    epoch: int


@dataclass(frozen=True)
class Message:
    """A webhook request as it came. outcome: `accepted` or `quarantined`; response: the JSON body of the reply."""

    source: str
    message_id: str
    body_sha256: str
    body: bytes
    received_at: datetime
    outcome: str
    response: Json


@dataclass(frozen=True)
class OutboxItem:
    """Work that must happen at least once. kind: `respond` | `flow` | `notify`. attempts: tries so far."""

    id: str
    kind: str
    payload: dict[str, Json]
    attempts: int
    created_at: datetime


@dataclass(frozen=True)
class Run:
    """One execution of a phase: by the first response or a Prefect flow run. executor: `threads` or `prefect`."""

    id: str
    incident: str
    phase: str
    executor: str
    owner: str
    started_at: datetime
    heartbeat_at: datetime
    ended_at: datetime | None


class Transaction(Protocol):
    """Reads and writes that are committed together, durably, or not at all. Also the only way to write."""

    def append(self, incident: str, *drafts: Draft, claim: Claim | None = None) -> tuple[Event, ...]:
        """Append to the incident's chain. With a claim: raises ClaimLost unless it is still the one in force."""
        ...

    def events(self, incident: str, after: int = 0) -> list[Event]:
        """The chain after a sequence number, in order."""
        ...

    def open_incident(self, incident: Incident, actor: str) -> Incident:
        """Number it (`IR-YEAR-NNNN`), append `incident.opened` {"incident": ...}, index it. Returns it numbered."""
        ...

    def index_incident(self, incident: Incident, *, closed: bool) -> None:
        """Refresh the look-up rows (hosts, closed) after an event changed them."""
        ...

    def open_incidents(self) -> list[Incident]:
        """Incidents not closed, oldest first, as indexed."""
        ...

    def message(self, source: str, message_id: str) -> Message | None:
        """An earlier request with this id."""
        ...

    def save_message(self, message: Message) -> None:
        """Keep a request; (source, message_id) is unique."""
        ...

    def firing(self, source: str, fingerprint: str) -> tuple[str, str] | None:
        """(alert id, incident id) of the latest unresolved alert with this fingerprint in an open incident."""
        ...

    def save_alert(self, alert: Alert, incident: str | None, duplicate_of: str | None) -> None:
        """Keep a normalised alert."""
        ...

    def enqueue(self, kind: str, payload: dict[str, Json], *, due: datetime | None = None) -> str:
        """Add to the outbox; returns the item's id."""
        ...

    def claim(self, incident: str, step: str, owner: str, *, stale_s: float) -> Claim | None:
        """Take a step: free, mine already, or its owner's heartbeat is older than stale_s. None: a live owner has it.

        Every successful claim of a free or stale step raises the epoch.
        """
        ...

    def release(self, claim: Claim) -> None:
        """Give a claim back; the epoch stays used."""
        ...

    def begin_run(self, run: Run) -> None:
        """Record that a phase is being executed."""
        ...

    def end_run(self, run_id: str) -> None:
        """Record that it is not any more."""
        ...

    def runs(self, incident: str, phase: str) -> list[Run]:
        """All runs of a phase, oldest first."""
        ...


class Store(Protocol):
    """The database behind the journal, the claims and the outbox. Safe for many threads and processes."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run work inside one transaction and return its result after the commit is durable.

        Concurrent calls of one process share a commit (group commit); an exception undoes only its own work
        and is raised to its own caller. `work` may be run again, so it has no effect outside the transaction.
        """
        ...

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Like transact, but read only, and never waiting for writers."""
        ...

    def events(self, incident: str, after: int = 0) -> list[Event]:
        """The chain after a sequence number."""
        ...

    def find_incident(self, text: str) -> Incident | None:
        """By number (`IR-2026-0001`, any case) or ULID."""
        ...

    def incidents(self, *, closed: bool | None = None, limit: int = 100) -> list[tuple[Incident, bool]]:
        """(incident, closed), newest first."""
        ...

    def heartbeat(self, owner: str) -> None:
        """Refresh all claims and runs of an owner."""
        ...

    def take(self, kinds: Sequence[str], owner: str, *, lease_s: float, limit: int = 32) -> list[OutboxItem]:
        """Due outbox items, oldest first; nobody else gets them for lease_s seconds. Counts an attempt."""
        ...

    def done(self, item_id: str) -> None:
        """The item's work has happened."""
        ...

    def again(self, item_id: str, due: datetime, error: str) -> None:
        """Try the item again later. error: one line, never a secret."""
        ...

    def pending(self) -> list[OutboxItem]:
        """All outbox items not done."""
        ...

    def lead(self, role: str, owner: str, *, ttl_s: float) -> bool:
        """Whether owner is (or just became) the leader for a role; others become it ttl_s after its last call."""
        ...

    def position(self) -> int:
        """Grows with every event of any journal, and with nothing else; 0 before the first."""
        ...

    def halted(self) -> str | None:
        """The reason all automation is halted, or None. Derived from the journal of `system`."""
        ...

    def close(self) -> None:
        """Finish pending commits and disconnect."""
        ...
