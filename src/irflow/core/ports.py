"""What core needs from the outside world, as protocols. Adapters implement them; actions and the engine use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from irflow.core.backups import NO_BACKUPS, Backups
from irflow.core.databases import NO_DATABASES, Databases
from irflow.core.errors import ConfigurationError
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.journal import Anchor
from irflow.core.model import Json
from irflow.core.secret import SecretValue
from irflow.core.store import Claim, Message, OutboxItem, Run, Store, Transaction

if TYPE_CHECKING:
    from irflow.core.outcome import StepResult
    from irflow.core.plan import PlanStep
    from irflow.core.rotations import Rotations

__all__ = [
    "Anchors",
    "Backups",
    "Channel",
    "Claim",
    "Clock",
    "Completed",
    "Databases",
    "DocumentStore",
    "Documents",
    "EvidenceStore",
    "Executor",
    "Expressions",
    "FlowStarter",
    "Hook",
    "Hooks",
    "Message",
    "NoHooks",
    "OutboxItem",
    "Ports",
    "Prober",
    "Run",
    "Shell",
    "Store",
    "StoredEvidence",
    "Streamed",
    "SystemClock",
    "Transaction",
]


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


@dataclass(frozen=True)
class Streamed:
    """A remote script that ended with an exit status after its output was handed on.

    size, sha256: of what the sink got. stderr: the last 64 KiB.
    """

    status: int
    size: int
    sha256: str
    stderr: bytes
    seconds: float


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
        secret: SecretValue | None = None,
    ) -> Completed:
        """Stream `remote/SCRIPT` to `sh -s -- ARGS` on the host, as root (with `sudo -n` where the host says so).

        args: each must match `[A-Za-z0-9_@%+=:,./\\[\\]-]*`; the adapter refuses others and quotes all.
        timeout_s: wall clock for connecting and running together. fresh: over a new connection, which then
        replaces the kept one. check: raise RemoteFailed on a status other than 0, with the last lines of stderr.
        secret: the script finds it, base64url, in its variable `secret`: in no argument and no environment.
        Raises HostUnreachable, HostKeyUnknown, HostKeyChanged, LoginFailed (nothing was run), RemoteFailed,
        DeadlineExceeded, ConnectionLost (what was done is unknown).
        """
        ...

    def stream(
        self,
        host: Host,
        script: str,
        args: Sequence[str] = (),
        *,
        sink: Callable[[bytes], object],
        timeout_s: float,
        max_bytes: int,
    ) -> Streamed:
        """Run a script as `run` does, but hand its standard output on, piece by piece, as it comes.

        sink: called in this thread with each piece; the host is held up while it has not returned, so memory does not
        grow. It must return by itself when timeout_s is over. What it raises ends the call and is passed on: the
        channel is closed, other calls on the connection are not disturbed, and nothing on the host is killed but by
        its own next write. max_bytes: more than that ends the call as OutputTooLarge; the sink never gets more.
        A status other than 0 is a result, not an error. Otherwise raises as `run`.
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


@dataclass(frozen=True)
class Hook:
    """Something outside that acts on hosts where SSH cannot: a switch, a hypervisor, a cloud, an application.

    name: as irflow.yaml calls it. timeout_s: how long one call may take.
    """

    name: str
    timeout_s: float


class Hooks(Protocol):
    """Calls the hooks that irflow.yaml names for groups or hosts."""

    def find(self, host: Host, verb: str) -> Hook | None:
        """The hook that does `verb` for the host: one that names the host, else one of its groups; None without any."""
        ...

    def call(
        self, host: Host, verb: str, payload: dict[str, Json], *, timeout_s: float, hook: str = ""
    ) -> dict[str, Json]:
        """Ask a hook to do `verb` and return the JSON object that it answers.

        payload: JSON, never a secret. timeout_s: wall clock, at most the hook's own. hook: its name, to call the same
        one as before; empty calls the one that find gives. A hook must take the same call twice.
        Raises ConfigurationError (there is no such hook), HookFailed (it said no, or nothing that is an answer),
        ServiceMissing (nothing was called), DeadlineExceeded (what it did is unknown).
        """
        ...


class NoHooks:
    """Where irflow.yaml names none."""

    def find(self, host: Host, verb: str) -> Hook | None:
        """None."""
        return None

    def call(
        self, host: Host, verb: str, payload: dict[str, Json], *, timeout_s: float, hook: str = ""
    ) -> dict[str, Json]:
        """Raises ConfigurationError."""
        named = f"called {hook}" if hook else f"for {verb}"
        raise ConfigurationError(f"there is no hook {named}", where=host.name, hint="Name one in irflow.yaml: hooks:")


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

    def newest(self, incident: str, prefix: str) -> str | None:
        """Path of the item written last whose name starts with prefix, None when there is none."""
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
    """Asks the executor of phases for runs."""

    def start(self, incident: Incident, phase: str, *, key: str, forms: Sequence[str] = ()) -> str:
        """Have a run of a phase: one of `forms` goes on if it is suspended, else one is created.

        key: the same one never creates two. forms: ids of runs that showed a form. Returns the id of the run that
        works now. Raises ServiceMissing.
        """
        ...

    def run_state(self, run_id: str) -> str:
        """Where a run stands, in Prefect's words (`RUNNING`, `PAUSED`, `GONE` ...): a hint. Raises ServiceMissing."""
        ...

    def go_on(self, run_id: str) -> bool:
        """Have a suspended run look at the journal again. False when it was not suspended. Raises ServiceMissing."""
        ...


class Executor(Protocol):
    """Runs steps in parallel: Prefect tasks or plain threads."""

    def submit(self, step: PlanStep, do: Callable[[PlanStep], StepResult]) -> Future[StepResult]:
        """Start one step; what decides when is core.engine."""
        ...


_NO_HOOKS = NoHooks()


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
    hooks: Hooks = _NO_HOOKS
    backups: Backups = NO_BACKUPS
    rotations: Rotations | None = None
    databases: Databases = NO_DATABASES
