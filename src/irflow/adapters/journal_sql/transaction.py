"""One caller's work inside a batch: the Transaction port, and which fault points its commit passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, NestedTransaction

from irflow.adapters.journal_sql import chain, claims, incidents, intake, news, outbox
from irflow.adapters.journal_sql.chain import Head, Row
from irflow.adapters.journal_sql.database import Database, to_us
from irflow.core.alert import Alert
from irflow.core.errors import JournalError
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Event, Kind
from irflow.core.model import Json
from irflow.core.ports import Claim, Message, OutboxItem, Run

PERSON = "operator:"
"""How the actor of what a person decided begins; every such event may be what the responder waits for."""


@dataclass
class Batch:
    """One database transaction that several works share.

    heads: of the chains seen so far; the write lock keeps them true. rows: events of finished works, not inserted yet:
    one statement for all is many times cheaper. points: what to name to the fault hook around the commit.
    """

    heads: dict[str, Head] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    points: list[str] = field(default_factory=list)

    def flush(self, connection: Connection) -> None:
        """Insert the waiting events."""
        if self.rows:
            chain.save(connection, self.rows)
            self.rows.clear()


class SqlTransaction:
    """Implements core.ports.Transaction over one connection, and what the store itself needs.

    batch: what this work shares with others; without one it only reads.
    """

    def __init__(self, database: Database, connection: Connection, batch: Batch | None = None) -> None:
        self._database = database
        self._connection = connection
        self._batch = batch
        self._savepoint: NestedTransaction | None = None
        self._mine = Batch()

    @property
    def now_us(self) -> int:
        """Now, by the clock that judges staleness."""
        return self._database.now_us(self._connection)

    @property
    def _write(self) -> Connection:
        """The connection for writing, from here on under a savepoint that undoes this work alone."""
        batch = self._shared()
        if self._savepoint is None:
            batch.flush(self._connection)
            self._savepoint = self._connection.begin_nested()
        return self._connection

    def _shared(self) -> Batch:
        if self._batch is None:
            raise JournalError("a read-only transaction tried to write", hint="Use Store.transact for writing")
        return self._batch

    @property
    def _points(self) -> list[str]:
        return self._mine.points

    def keep(self) -> None:
        """The work is done: its writes become part of the batch."""
        batch = self._shared()
        if self._savepoint is not None:
            self._savepoint.commit()
        batch.heads.update(self._mine.heads)
        batch.rows.extend(self._mine.rows)
        batch.points.extend(self._mine.points)

    def drop(self) -> None:
        """The work failed: undo its writes."""
        if self._savepoint is not None:
            self._savepoint.rollback()

    # ------------------------------------------------------------ the journal

    def append(self, incident: str, *drafts: Draft, claim: Claim | None = None) -> tuple[Event, ...]:
        """Append to the incident's chain. With a claim: raises ClaimLost unless it is still the one in force."""
        batch = self._shared()
        if claim is not None:
            claims.check(self._connection, claim)
        if not drafts:
            return ()
        after = self._mine.heads.get(incident) or batch.heads.get(incident) or chain.head(self._connection, incident)
        made, rows = chain.extend(incident, after, self._database.clock, drafts)
        self._mine.heads[incident] = (made[-1].seq, made[-1].hash)
        self._mine.rows.extend(rows)
        self._points.extend(event.kind for event in made)
        if any(draft.actor.startswith(PERSON) for draft in drafts):
            news.tell(self._write)
        return made

    def events(self, incident: str, after: int = 0) -> list[Event]:
        """The chain after a sequence number, in order."""
        if self._mine.rows:
            self._mine.flush(self._write)
        elif self._batch is not None:
            self._batch.flush(self._connection)
        return chain.events_after(self._connection, incident, after)

    def position(self) -> int:
        """Number of the row that was written last."""
        return chain.position(self._connection)

    def halted(self) -> str | None:
        """The reason all automation is halted, or None."""
        return chain.halted(self._connection)

    # ------------------------------------------------------------ incidents

    def open_incident(self, incident: Incident, actor: str) -> Incident:
        """Give it the next number of this year (UTC), append `incident.opened`, index it."""
        numbered = incidents.give_number(self._write, incident, self._database.clock.now().year)
        self.append(incident.id, Draft(Kind.INCIDENT_OPENED, actor, {"incident": numbered.to_data()}))
        return numbered

    def index_incident(self, incident: Incident, *, closed: bool) -> None:
        """Refresh the look-up rows."""
        incidents.index(self._write, incident, closed=closed)

    def open_incidents(self) -> list[Incident]:
        """Incidents not closed, oldest first."""
        return incidents.open_ones(self._connection)

    def find_incident(self, text: str) -> Incident | None:
        """By number or ULID, any case."""
        return incidents.find(self._connection, text)

    def incidents(self, closed: bool | None, limit: int) -> list[tuple[Incident, bool]]:
        """(incident, closed), newest first."""
        return incidents.newest(self._connection, closed, limit)

    # ------------------------------------------------------------ intake

    def message(self, source: str, message_id: str) -> Message | None:
        """An earlier request with this id."""
        return intake.message(self._connection, source, message_id)

    def save_message(self, message: Message) -> None:
        """Keep a request; raises JournalError when (source, message_id) is taken."""
        intake.save_message(self._write, message)

    def firing(self, source: str, fingerprint: str) -> tuple[str, str] | None:
        """(alert id, incident id) that a repeat of this trouble belongs to."""
        return intake.firing(self._connection, source, fingerprint)

    def save_alert(self, alert: Alert, incident: str | None, duplicate_of: str | None) -> None:
        """Keep a normalised alert."""
        intake.save_alert(self._write, alert, incident, duplicate_of)

    # ------------------------------------------------------------ the outbox

    def enqueue(self, kind: str, payload: dict[str, Json], *, due: datetime | None = None) -> str:
        """Add to the outbox; returns the item's id."""
        now = self.now_us
        self._points.append("outbox")
        news.tell(self._write)
        return outbox.add(self._write, kind, payload, now, now if due is None else to_us(due))

    def any_due(self, kinds: tuple[str, ...]) -> bool:
        """Whether take would find something."""
        return outbox.any_due(self._connection, kinds, self.now_us)

    def take(self, kinds: tuple[str, ...], owner: str, lease_s: float, limit: int) -> list[OutboxItem]:
        """Due items, leased to owner."""
        items = outbox.take(self._write, kinds, owner, self.now_us, lease_s, limit)
        if items:
            self._points.append("outbox.taken")
        return items

    def done(self, item_id: str) -> None:
        """The item's work has happened."""
        if outbox.done(self._write, item_id):
            self._points.append("outbox.done")

    def again(self, item_id: str, due: datetime, error: str) -> None:
        """Try the item again later."""
        if outbox.again(self._write, item_id, to_us(due), error):
            self._points.append("outbox.again")

    def pending(self) -> list[OutboxItem]:
        """All items not done."""
        return outbox.pending(self._connection)

    # ------------------------------------------------------------ claims and runs

    def claim(self, incident: str, step: str, owner: str, *, stale_s: float) -> Claim | None:
        """Take a step: free, mine already, or its owner fell silent. None: a live owner has it."""
        taken = claims.claim(self._write, incident, step, owner, stale_s, self.now_us)
        if taken is None:
            return None
        if taken[1]:
            self._points.append("claim")
        return taken[0]

    def release(self, claim: Claim) -> None:
        """Give a claim back; nothing happens where it was lost."""
        if claims.release(self._write, claim):
            self._points.append("release")

    def begin_run(self, run: Run) -> None:
        """Record that a phase is being executed."""
        claims.begin_run(self._write, run, self.now_us)

    def end_run(self, run_id: str) -> None:
        """Record that it is not any more."""
        claims.end_run(self._write, run_id, self.now_us)

    def runs(self, incident: str, phase: str) -> list[Run]:
        """All runs of a phase, oldest first."""
        return claims.runs_of(self._connection, incident, phase)

    def heartbeat(self, owner: str) -> None:
        """Refresh all claims and runs of an owner."""
        claims.heartbeat(self._write, owner, self.now_us)

    def led_by_other(self, role: str, owner: str) -> bool:
        """Whether somebody else leads a role."""
        return claims.led_by_other(self._connection, role, owner, self.now_us)

    def lead(self, role: str, owner: str, ttl_s: float) -> bool:
        """Become or stay the leader."""
        return claims.lead(self._write, role, owner, self.now_us, ttl_s)
