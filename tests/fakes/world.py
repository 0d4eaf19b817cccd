"""A small world for tests of the decisions: hosts that are a dict, an action that cuts them, a real SQLite store."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ulid import ULID

from irflow.adapters.journal_sql import open_store
from irflow.core.action import Action, Change, Check, Context, Params, Proof, Registry
from irflow.core.alert import Trust
from irflow.core.engine import Engine
from irflow.core.errors import ConfigurationError
from irflow.core.incident import Incident
from irflow.core.inventory import Caps, Host, Inventory
from irflow.core.model import Json
from irflow.core.planner import Catalog
from irflow.core.playbook import Playbook
from irflow.core.ports import Clock, Ports, Store, SystemClock
from irflow.core.runbook import Runbook
from irflow.core.severity import Severity

KEY = "file:/nowhere/key"


@dataclass
class FakeHosts:
    """What is true on the hosts. hooks: called before an effect, by (verb, host); may raise."""

    cut: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    hooks: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def do(self, verb: str, host: str) -> None:
        with self.lock:
            self.calls.append((verb, host))
        self.hooks.get((verb, host), lambda: None)()


class CutParams(Params):
    host: str


class Cut(Action[CutParams]):
    """Cuts a host of the fake world."""

    name: ClassVar[str] = "test.cut"
    summary: ClassVar[str] = "cut"
    Params: ClassVar[type[Any]] = CutParams
    lease: ClassVar[str | None] = "isolation"

    def __init__(self, hosts: FakeHosts) -> None:
        self._hosts = hosts

    def observe(self, params: CutParams, context: Context) -> dict[str, Json]:
        self._hosts.do("observe", params.host)
        return {"cut": params.host in self._hosts.cut}

    def plan(self, params: CutParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        return () if seen["cut"] else (Change("cut it", {"host": params.host}),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        self._hosts.do("apply", change.data["host"])
        self._hosts.cut.add(change.data["host"])
        return {}

    def verify(
        self, params: CutParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        self._hosts.do("verify", params.host)
        return Proof((Check("is cut", params.host in self._hosts.cut),), {"host": params.host})

    def undo(self, change: Change, context: Context) -> Proof:
        name = change.data["host"]
        self._hosts.do("undo", name)
        self._hosts.cut.discard(name)
        return Proof((Check("is open", name not in self._hosts.cut),), {}, ended_leases=("isolation",))


class Look(Cut):
    """Reads only."""

    name: ClassVar[str] = "test.look"
    mutates: ClassVar[bool] = False
    lease: ClassVar[str | None] = None

    def plan(self, params: CutParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        return ()

    def verify(
        self, params: CutParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        return Proof((), {"seen": seen})


class ReleaseParams(CutParams):
    pass


class Free(Cut):
    """Always needs a person."""

    name: ClassVar[str] = "test.free"
    needs_person: ClassVar[bool] = True
    lease: ClassVar[str | None] = None
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "what reached it meanwhile cannot be taken back"


class PlainExpressions:
    """`{{ a.b }}` look-ups only: enough for tests of planning; the real sandbox has its own tests."""

    def evaluate(self, text: str, scope: dict[str, Json]) -> Json:
        found = re.fullmatch(r"\{\{\s*([\w.]+)\s*\}\}", text)
        if not found:
            return text
        value: Json = scope
        for part in found[1].split("."):
            if part not in value:
                raise ConfigurationError(f"{found[1]} is undefined")
            value = value[part]
        return value


class NoAdapter:
    """Stands where a test uses no such adapter: any use is an error."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"this test uses no adapter, but .{name} was asked for")


def host(name: str, **more: Any) -> Host:
    """An inventory host."""
    return Host(name=name, address=f"192.0.2.{len(name)}", key=KEY, **more)


RUNBOOK = Runbook.model_validate(
    {
        "runbook": "cut-off",
        "title": "Cut hosts off",
        "parameters": {"hosts": {"type": "hosts", "required": True}},
        "steps": [
            {
                "id": "look",
                "title": "Look",
                "action": "test.look",
                "for_each": "{{ hosts }}",
                "with": {"host": "{{ item }}"},
                "on_failure": "continue",
            },
            {
                "id": "cut",
                "title": "Cut",
                "action": "test.cut",
                "for_each": "{{ hosts }}",
                "with": {"host": "{{ item }}"},
                "approval": "incident_commander",
            },
            {"id": "tell", "title": "Tell", "manual": "Call the owner", "role": "communications"},
        ],
    }
)
RELEASE = Runbook.model_validate(
    {
        "runbook": "set-free",
        "title": "Release",
        "parameters": {"hosts": {"type": "hosts", "required": True}},
        "steps": [
            {
                "id": "free",
                "title": "Free",
                "action": "test.free",
                "for_each": "{{ hosts }}",
                "with": {"host": "{{ item }}"},
            }
        ],
    }
)
PLAYBOOK = Playbook.model_validate(
    {
        "playbook": "test",
        "title": "Test",
        "match": {"types": ["system_compromise"]},
        "auto_approve": {"cut-off.cut": ["critical"], "set-free.free": ["critical"]},
        "phases": {
            "containment": [{"runbook": "cut-off", "with": {"hosts": "{{ incident.hosts }}"}}],
            "recovery": [{"runbook": "set-free", "with": {"hosts": "{{ incident.hosts }}"}}],
        },
    }
)


@dataclass
class World:
    """An engine over a real SQLite store and fake hosts."""

    engine: Engine
    hosts: FakeHosts
    store: Store

    def incident(self, *names: str, **more: Any) -> Incident:
        """Open an incident about these hosts."""
        fields: dict[str, Any] = {
            "id": str(ULID()),
            "type": "system_compromise",
            "severity": Severity.CRITICAL,
            "trust": Trust.VERIFIED,
            "title": "t",
            "hosts": names,
            "playbook": "test",
            "detected_at": self.engine.ports.clock.now(),
            **more,
        }
        return self.store.transact(lambda tx: tx.open_incident(Incident(**fields), "test"))


def world(
    folder: Path,
    *hosts: Host,
    caps: Caps = Caps(),
    clock: Clock | None = None,
    owner: str = "one",
    shared: FakeHosts | None = None,
    stale_s: float = 10.0,
) -> World:
    """Build one. shared: the hosts of another world, to have two engines over the same store and hosts."""
    ticking = clock or SystemClock()
    fake = shared or FakeHosts()
    store = open_store(f"sqlite:///{folder / 'journal.db'}", clock=ticking)
    inventory = Inventory(hosts={one.name: one for one in hosts}, caps=caps)
    none: Any = NoAdapter()
    ports = Ports(ticking, store, none, inventory, none, none, none, none, none, PlainExpressions())
    catalog = Catalog(
        {"test": PLAYBOOK},
        {"cut-off": RUNBOOK, "set-free": RELEASE},
        Registry([Cut(fake), Look(fake), Free(fake)]),
        inventory,
        PlainExpressions(),
    )
    return World(Engine(ports, catalog, actor="irflow:test", owner=owner, stale_s=stale_s), fake, store)
