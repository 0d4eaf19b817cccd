"""Actions on lab hosts: a context with the real SSH, prober and evidence store, and no journal."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from irflow.adapters.evidence_store import FileEvidenceStore
from irflow.adapters.prober import TcpProber
from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell
from irflow.core.action import Action, Change, Context, Proof
from irflow.core.alert import Trust
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.model import Json
from irflow.core.plan import PlanStep
from irflow.core.ports import Ports, SystemClock
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus, StepStatus
from irflow.lab import inventory
from irflow.lab.lab import Lab
from tests.fakes.world import NoAdapter

_EPOCHS = itertools.count(int(time.time() * 1000))


@dataclass
class Hands:
    """Does with an action what the engine does, and remembers outcomes as the journal would."""

    lab: Lab
    home: Path
    hosts: dict[str, Host] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.hosts = self.hosts or {one.name: one for one in inventory.entries(self.lab)}
        all_hosts = Inventory(hosts=self.hosts)
        none: Any = NoAdapter()
        self.shell = SshShell(FileSecrets(), all_hosts)
        self.evidence = FileEvidenceStore(self.home / "evidence")
        self.ports = Ports(
            SystemClock(), none, none, all_hosts, self.shell, TcpProber(), self.evidence, none, none, none
        )
        incident = Incident(
            id="01JTESTTESTTESTTESTTESTTEST"[:26], number="IR-2026-0001", type="system_compromise",
            severity=Severity.CRITICAL, trust=Trust.VERIFIED, title="t", hosts=tuple(self.hosts),
            detected_at=datetime.now(UTC),
        )  # fmt: skip
        self.status = IncidentStatus(incident)

    def context(self, action: Action[Any], host: str, *, epoch: int | None = None, seconds: float = 60.0) -> Context:
        step = PlanStep(
            key=f"containment/test.{action.name}@{host}", runbook="test", step="test", title="t", action=action.name,
            target=host,
        )  # fmt: skip
        deadline = time.monotonic() + seconds
        return Context(
            self.status.incident, self.status, step, self.hosts.get(host), epoch or next(_EPOCHS), "irflow:test",
            deadline, self.ports,
        )  # fmt: skip

    def run(self, action: Action[Any], host: str, **params: Json) -> tuple[tuple[Change, ...], Proof]:
        """Observe, plan, apply, verify; the outcome is remembered."""
        context = self.context(action, host)
        checked = action.Params.model_validate({"host": host, **params})
        seen = action.observe(checked, context)
        changes = action.plan(checked, seen)
        applied = tuple(action.apply(change, context) for change in changes)
        proof = action.verify(checked, seen, applied, context)
        self.remember(context.step.key, host, proof)
        return changes, proof

    def remember(self, key: str, host: str, proof: Proof) -> None:
        self.status.steps[key] = StepStatus(key, host, outcome={"facts": proof.facts})

    def close(self) -> None:
        self.shell.close()
