"""What core needs from the outside world, as protocols. Adapters implement them; actions and the engine use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from irflow.core.alert import Alert
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.journal import Anchor, Draft, Event
from irflow.core.model import Json

if TYPE_CHECKING:
    from irflow.core.engine import StepResult
    from irflow.core.plan import PlanStep

T = TypeVar("T")


class Clock(Protocol):
    """Time; replaced in tests."""

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """time.monotonic."""
        return time.monotonic()


# ---------------------------------------------------------------- hosts


@dataclass(frozen=True)
class Completed:
    """A remote script that ended with an exit status. stdout and stderr are capped."""

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout.decode("utf-8", "replace")


class Shell(Protocol):
    """Runs the scripts of remote/ on hosts over SSH."""

    def run(
        self,
        host: Host,
        script: str,
        args: Sequence[str] = (),
        *,
        timeout_s: float,
        fresh: bool = False,
        max_output: int = 8 << 20,
        check: bool = True,
    ) -> Completed:
        """Stream `remote/SCRIPT` to `sh -s -- ARGS` on the host, as root (with `sudo -n` where the host says so).

        args: each must match `[A-Za-z0-9_@%+=:,./\\[\\]-]*`; the adapter refuses others and quotes all.
        timeout_s: wall clock for connecting and running together. fresh: over a new connection, which then
        replaces the kept one. check: raise RemoteFailed on a status other than 0, with the last lines of stderr.
        Raises HostUnreachable, HostKeyUnknown, HostKeyChanged, LoginFailed (nothing was run), RemoteFailed,
        DeadlineExceeded, ConnectionLost (what was done is unknown).
        """
        ...

    def connect(self, host: Host, *, timeout_s: float) -> None:
        """Open the kept connection if there is none; used to connect ahead of need. Same errors."""
        ...

    def close(self) -> None:
        """Close all connections, inner ones before jump hosts."""
        ...


class Prober(Protocol):
    """Looks at a host from the responder's network without logging in."""

    def tcp(self, host: Host, port: int, *, timeout_s: float) -> str:
        """`open`, `refused` or `silent` (no answer within timeout_s, or unreachable)."""
        ...


# ---------------------------------------------------------------- the store


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

    def halted(self) -> str | None:
        """The reason all automation is halted, or None. Derived from the journal of `system`."""
        ...

    def close(self) -> None:
        """Finish pending commits and disconnect."""
        ...


class Anchors(Protocol):
    """Signed heads, kept outside the database."""

    def sign(self, incident: str, seq: int, hash_: str, at: str) -> Anchor:
        """Sign a head, copy it out durably, return it."""
        ...

    def load(self, incident: str) -> tuple[Anchor, ...]:
        """The anchors of an incident. Raises JournalError naming any whose signature is wrong."""
        ...


# ---------------------------------------------------------------- evidence, documents, people


@dataclass(frozen=True)
class StoredEvidence:
    """One item in the evidence store. path: relative to the store. sha256: of the bytes as received."""

    path: str
    sha256: str
    bytes: int


class EvidenceStore(Protocol):
    """Keeps evidence; nothing in it is ever changed."""

    def put(self, incident: str, name: str, content: bytes) -> StoredEvidence:
        """Write once, fsync, read-only. name: `[a-z0-9._-]+`. Raises IrflowError if it exists with other content."""
        ...

    def get(self, path: str) -> bytes:
        """The content again. Raises IrflowError when it is missing."""
        ...


class DocumentStore(Protocol):
    """Keeps rendered documents; a new version never replaces an old one."""

    def put(self, incident: str, name: str, text: str) -> StoredEvidence:
        """Write `NAME.md`, or `NAME-2.md` ... where that is taken by another text."""
        ...


class Documents(Protocol):
    """Renders the *.md.j2 templates."""

    def render(self, template: str, scope: dict[str, Json]) -> str:
        """Fill a shipped or local template; text values are data and are never rendered again."""
        ...

    def names(self) -> tuple[str, ...]:
        """Templates that exist."""
        ...


class Expressions(Protocol):
    """Evaluates `{{ ... }}` of playbooks and runbooks in a sandbox."""

    def evaluate(self, text: str, scope: dict[str, Json]) -> Json:
        """A lone `{{ expr }}` gives the expression's value; text around expressions gives text; else the text as is.

        Strict about undefined names. Raises ConfigurationError. Values in scope are data and never evaluated.
        """
        ...


class Channel(Protocol):
    """Sends one message to people."""

    def send(self, payload: dict[str, Json]) -> None:
        """payload: channels, title, body, incident. Raises IrflowError when it did not get out."""
        ...


class FlowStarter(Protocol):
    """Asks the executor of phases for a run."""

    def start(self, incident: Incident, phase: str, *, key: str) -> str:
        """Create one flow run for a phase; the same key never creates two. Returns its id. Raises ServiceMissing."""
        ...


class Executor(Protocol):
    """Runs steps in parallel: Prefect tasks or plain threads."""

    def submit(self, step: PlanStep, do: Callable[[PlanStep], StepResult]) -> Future[StepResult]:
        """Start one step; what decides when is core.engine."""
        ...


@dataclass(frozen=True)
class Ports:
    """Everything at hand. Processes without SSH (web) never build one."""

    clock: Clock
    store: Store
    anchors: Anchors
    inventory: Inventory
    shell: Shell
    prober: Prober
    evidence: EvidenceStore
    document_store: DocumentStore
    documents: Documents
    expressions: Expressions
