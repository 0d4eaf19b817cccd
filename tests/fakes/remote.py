"""Hosts that answer from a table: a shell, a prober and an evidence store for tests of actions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from irflow.core.action import Context
from irflow.core.alert import Trust
from irflow.core.errors import IrflowError
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.plan import PlanStep
from irflow.core.ports import Completed, Ports, StoredEvidence, Streamed, SystemClock
from irflow.core.secret import SecretValue
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus
from tests.fakes.world import NoAdapter

Answer = bytes | str | Completed | Exception


@dataclass
class FakeShell:
    """Answers calls from a table: `SCRIPT VERB` -> answer, or a list of them that is used up from the front."""

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    calls: list[tuple[str, tuple[str, ...], bool]] = field(default_factory=list)

    def run(
        self, host: Host, script: str, args: Sequence[str] = (), *, timeout_s: float, fresh: bool = False,
        max_output: int = 8 << 20, check: bool = True, secret: SecretValue | None = None,
    ) -> Completed:  # fmt: skip
        assert timeout_s > 0
        self.calls.append((script, tuple(args), fresh))
        answer = self.answers[" ".join([script, *args[:1]])]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completed):
            return answer
        return Completed(0, answer.encode() if isinstance(answer, str) else answer, b"", 0.01)

    def stream(
        self, host: Host, script: str, args: Sequence[str] = (), *, sink: Callable[[bytes], object], timeout_s: float,
        max_bytes: int,
    ) -> Streamed:  # fmt: skip
        done = self.run(host, script, args, timeout_s=timeout_s)
        sink(done.stdout)
        digest = hashlib.sha256(done.stdout).hexdigest()
        return Streamed(done.status, len(done.stdout), digest, done.stderr, done.seconds)

    def verbs(self) -> list[str]:
        return [f"{args[0] if args else ''}{' (new connection)' if fresh else ''}" for _, args, fresh in self.calls]

    def connect(self, host: Host, *, timeout_s: float) -> None:
        raise AssertionError("not used by actions")

    def close(self) -> None:
        raise AssertionError("not used by actions")


@dataclass
class FakeProber:
    """Gives its answers in turn."""

    answers: list[str]
    ports: list[int] = field(default_factory=list)

    def tcp(self, host: Host, port: int, *, timeout_s: float) -> str:
        self.ports.append(port)
        return self.answers.pop(0)


@dataclass
class FakeEvidence:
    """In memory."""

    items: dict[str, bytes] = field(default_factory=dict)

    def put(self, incident: str, name: str, content: bytes) -> StoredEvidence:
        self.items[f"{incident}/{name}"] = content
        return StoredEvidence(f"{incident}/{name}", hashlib.sha256(content).hexdigest(), len(content))

    def get(self, path: str) -> bytes:
        if path not in self.items:
            raise IrflowError("missing", where=path)
        return self.items[path]

    def newest(self, incident: str, prefix: str) -> str | None:
        return next((one for one in reversed(self.items) if one.startswith(f"{incident}/{prefix}")), None)


def context(
    *, shell: Any = None, prober: Any = None, evidence: Any = None, store: Any = None, documents: Any = None,
    document_store: Any = None, incident: Incident | None = None, **host: Any,
) -> Context:  # fmt: skip
    """A context for one step on `web-1`. host: fields of the inventory entry."""
    none: Any = NoAdapter()
    fields: dict[str, Any] = {"management": ("10.0.0.1/32",), **host}
    entry = Host(name="web-1", address="192.0.2.1", key="file:/nowhere/key", **fields)
    about = incident or Incident(
        id="01JTESTTESTTESTTESTTESTTES", number="IR-2026-0001", type="system_compromise", severity=Severity.CRITICAL,
        trust=Trust.VERIFIED, title="t", hosts=("web-1",), detected_at=datetime.now(UTC),
    )  # fmt: skip
    step = PlanStep(key="containment/isolate-host#2.isolate@web-1", runbook="r", step="s", title="t", target="web-1")
    clock = SystemClock()
    ports = Ports(
        clock, store or none, none, Inventory(hosts={"web-1": entry}), shell or none, prober or none, evidence or none,
        document_store or none, documents or none, none,
    )  # fmt: skip
    return Context(about, IncidentStatus(about), step, entry, 7, "irflow:test", clock.monotonic() + 60, ports)
