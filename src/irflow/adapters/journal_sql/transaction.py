"""One caller's work inside a batch: the Transaction port, and which fault points its commit passes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from irflow.adapters.journal_sql import chain, claims, incidents, intake, outbox
from irflow.adapters.journal_sql.chain import Head
from irflow.adapters.journal_sql.database import Database, to_us
from irflow.core.alert import Alert
from irflow.core.errors import JournalError
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Event, Kind
from irflow.core.model import Json
from irflow.core.ports import Claim, Message, OutboxItem, Run


class SqlTransaction:
    """Implements core.ports.Transaction over one connection, and what the store itself needs.

    heads: chain heads already known in this database transaction; the write lock keeps them true.
    points: what to name to the fault hook when this work is committed.
    """

    def __init__(self, database: Database, connection: Connection, *, heads: dict[str, Head] | None = None) -> None:
        self._database = database
        self._connection = connection
        self._writable = heads is not None
        self.heads: dict[str, Head] = dict(heads or {})
        self.points: list[str] = []

    @property
    def now_us(self) -> int:
        """Now, by the clock that judges staleness."""
        return self._database.now_us(self._connection)

    @property
    def _write(self) -> Connection:
        if not self._writable:
            raise JournalError("a read-only transaction tried to write", hint="Use Store.transact for writing")
        return self._connection

    # ------------------------------------------------------------ the journal

    def append(self, incident: str, *drafts: Draft, claim: Claim | None = None) -> tuple[Event, ...]:
        """Append to the incident's chain. With a claim: raises ClaimLost unless it is still the one in force."""
        connection = self._write
        if claim is not None:
            claims.check(connection, claim)
        if not drafts:
            return ()
        after = self.heads.get(incident) or chain.head(connection, incident)
        made = chain.extend(connection, incident, after, self._database.clock, drafts)
        self.heads[incident] = (made[-1].seq, made[-1].hash)
        self.points.extend(event.kind for event in made)
        return made

    def events(self, incident: str, after: int = 0) -> list[Event]:
        """The chain after a sequence number, in order."""
        return chain.events_after(self._connection, incident, after)

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
        self.points.append("outbox")
        return outbox.add(self._write, kind, payload, now, now if due is None else to_us(due))

    def any_due(self, kinds: tuple[str, ...]) -> bool:
        """Whether take would find something."""
        return outbox.any_due(self._connection, kinds, self.now_us)

    def take(self, kinds: tuple[str, ...], owner: str, lease_s: float, limit: int) -> list[OutboxItem]:
        """Due items, leased to owner."""
        items = outbox.take(self._write, kinds, owner, self.now_us, lease_s, limit)
        if items:
            self.points.append("outbox.taken")
        return items

    def done(self, item_id: str) -> None:
        """The item's work has happened."""
        if outbox.done(self._write, item_id):
            self.points.append("outbox.done")

    def again(self, item_id: str, due: datetime, error: str) -> None:
        """Try the item again later."""
        if outbox.again(self._write, item_id, to_us(due), error):
            self.points.append("outbox.again")

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
            self.points.append("claim")
        return taken[0]

    def release(self, claim: Claim) -> None:
        """Give a claim back; nothing happens where it was lost."""
        if claims.release(self._write, claim):
            self.points.append("release")

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
