"""A site for tests of the intake: sources with keys made now, an inventory, playbooks, a real SQLite store."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from standardwebhooks import Webhook

from irflow.actions import load_actions
from irflow.adapters.document_store import FileDocumentStore
from irflow.adapters.journal_sql import SqlStore, open_store
from irflow.adapters.made_key import made_key
from irflow.adapters.operator_tokens import OperatorTokens
from irflow.core.approvals import Operator
from irflow.core.identity import Access
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.journal import Event, Kind
from irflow.core.playbook import Playbook
from irflow.core.secret import SecretRef, SecretValue
from irflow.intake.source import Source
from irflow.web.app import create_app
from irflow.web.board import Board
from irflow.web.door import Door
from irflow.web.sessions import Ended, Sessions
from irflow.wiring.page import page_templates

HOSTS = ("web-1", "web-2", "web-3", "db-1")
INVENTORY = Inventory(
    hosts={
        name: Host(name=name, address=f"10.0.1.{at}", key="file:/none", aliases=(f"{name}.example.com",))
        for at, name in enumerate(HOSTS, 11)
    }
)
COMPROMISE = Playbook.model_validate({
    "playbook": "system-compromise", "title": "A host is under someone else's control",
    "match": {"types": ["system_compromise", "malware"], "severity": ["critical", "high"]},
    "auto_approve": {"isolate-host.isolate": ["critical"]}, "phases": {},
})  # fmt: skip
ANYTHING = Playbook.model_validate(
    {"playbook": "data-breach", "title": "Data left", "match": {"types": ["data_breach"]}, "phases": {}}
)


ROLES = ("incident_commander", "technical_lead", "communications", "legal")
OPERATORS = (
    Operator(name="ann", login="ann", roles=ROLES, access=Access.ADMIN),
    Operator(name="ben", login="ben", roles=("incident_commander", "communications"), access=Access.DEVELOPER),
    Operator(name="cy", login="cy", roles=("communications", "incident_commander"), access=Access.AGENT),
    Operator(name="dee", login="dee", roles=ROLES, access=Access.MONITOR),
)


class SettableClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.passed = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.passed

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.passed += seconds


class MadeKeys:
    """Keys by reference path, made at run time."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def resolve(self, ref: SecretRef) -> SecretValue:
        return SecretValue(self.values[ref.path].encode() + b"\n")


def new_signing_key() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass
class Site:
    """A running application and the ways to send to it."""

    store: SqlStore
    clock: SettableClock
    keys: MadeKeys
    client: TestClient
    far_client: TestClient
    app: FastAPI
    tokens: OperatorTokens
    operators: list[Operator]
    documents: FileDocumentStore
    state: Path
    wakes: list[int] = field(default_factory=list)

    def visitor(self, name: str = "ann", token: str = "") -> TestClient:
        """A browser on this machine in which an operator has logged in."""
        client = TestClient(
            self.app, base_url=self.client.base_url, client=("127.0.0.1", 40001), follow_redirects=False
        )
        reply = client.post("/login", data={"token": token or self.tokens.issue(name)})
        assert reply.status_code == 303, reply.text
        return client

    def signed(
        self, body: bytes, *, source: str = "detection", message_id: str | None = None, key: str = "detection",
        sent_s: float = 0, headers: dict[str, str] | None = None,
    ) -> Response:  # fmt: skip
        """POST a body signed now (plus sent_s seconds) with the reference library. headers: replace signed ones."""
        made = sign(self.keys.values[key], body, self.clock.at + timedelta(seconds=sent_s), message_id)
        reply: Response = self.client.post(f"/webhooks/{source}", content=body, headers={**made, **(headers or {})})
        return reply

    def alert(self, **fields: Any) -> Response:
        """POST one signed alert; sensible defaults."""
        return self.signed(alert_body(**fields))

    def alerts(self, *alerts: dict[str, Any]) -> Response:
        """POST several in one request."""
        return self.signed(json.dumps({"alerts": [{**DEFAULTS, **one} for one in alerts]}).encode())

    def open(self) -> list[Incident]:
        """Open incidents, oldest first."""
        return self.store.read(lambda tx: tx.open_incidents())

    def events(self, incident: str, kind: Kind) -> list[Event]:
        """Events of one kind."""
        return [event for event in self.store.events(incident) if event.kind == kind]

    def outbox(self, kind: str = "respond") -> list[str]:
        """Incidents with work waiting, in order."""
        return [item.payload["incident"] for item in self.store.pending() if item.kind == kind]


DEFAULTS: dict[str, Any] = {
    "type": "system_compromise", "severity": "critical", "title": "beacon from a deleted binary", "hosts": ["web-1"],
}  # fmt: skip


def alert_body(**fields: Any) -> bytes:
    """One alert as JSON; a field that is `...` is left out."""
    return json.dumps({key: one for key, one in {**DEFAULTS, **fields}.items() if one is not ...}).encode()


def sign(key: str, body: bytes, at: datetime, message_id: str | None = None) -> dict[str, str]:
    """Headers of Standard Webhooks by the reference library, where it can (it wants text)."""
    id_ = message_id or f"msg_{secrets.token_hex(8)}"
    signature = Webhook(key).sign(id_, at, body.decode()) if _is_text(body) else _sign_bytes(key, id_, at, body)
    return {"webhook-id": id_, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sign_bytes(key: str, id_: str, at: datetime, body: bytes) -> str:
    signed = f"{id_}.{int(at.timestamp())}.".encode() + body
    raw = base64.b64decode(key.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()


def default_sources() -> list[Source]:
    return [
        Source.model_validate(one)
        for one in (
            {"name": "detection", "kind": "standard", "auth": "hmac", "key": ["file:detection", "file:next"]},
            {"name": "alertmanager", "kind": "alertmanager", "auth": "bearer", "key": "file:token",
             "type_map": {"RootkitFound": "system_compromise"}},
            {"name": "bearer", "kind": "standard", "auth": "bearer", "key": "file:token"},
            {"name": "open", "kind": "standard", "auth": "none"},
            {"name": "small", "kind": "standard", "auth": "hmac", "key": "file:detection", "max_body": 1000},
            {"name": "big", "kind": "standard", "auth": "hmac", "key": "file:detection", "max_body": 16 << 20},
            {"name": "slow", "kind": "standard", "auth": "hmac", "key": "file:detection", "per_minute": 3},
            {"name": "drill", "kind": "standard", "auth": "hmac", "key": "file:detection", "drill": True},
        )
    ]  # fmt: skip


@contextmanager
def site(
    folder: Path, sources: list[Source] | None = None, more_keys: dict[str, str] | None = None, *, url: str = ""
) -> Iterator[Site]:
    """Start one, on SQLite unless a url is given.

    Requests of `client` come from loopback, those of `far_client` from elsewhere, without TLS.
    """
    clock, keys = SettableClock(), MadeKeys()
    keys.values = {
        "detection": new_signing_key(),
        "next": new_signing_key(),
        "token": secrets.token_urlsafe(24),
        **(more_keys or {}),
    }
    store = open_store(url or f"sqlite:///{folder / 'journal.db'}", clock=clock)
    wakes: list[int] = []
    operators, tokens = list(OPERATORS), OperatorTokens(folder / "operator-tokens.json")
    documents = FileDocumentStore(folder / "documents")
    app = create_app(
        sources=default_sources() if sources is None else sources, store=store, inventory=INVENTORY,
        playbooks=(COMPROMISE, ANYTHING), secrets=keys, clock=clock, wake=lambda: wakes.append(1),
        board=_board(folder, store, clock, tokens, operators, documents, wakes),
    )  # fmt: skip
    try:
        with TestClient(app, base_url="http://127.0.0.1:8765", client=("127.0.0.1", 40000)) as client:
            far = TestClient(app, base_url="http://192.0.2.1:8765", client=("192.0.2.7", 40000))
            yield Site(store, clock, keys, client, far, app, tokens, operators, documents, folder, wakes)
    finally:
        store.close()


def _board(
    folder: Path, store: SqlStore, clock: SettableClock, tokens: OperatorTokens, operators: list[Operator],
    documents: FileDocumentStore, wakes: list[int],
) -> Board:  # fmt: skip
    sessions = Sessions(made_key(folder / "web-session.key"), Ended(folder / "web-sessions.ended", clock), clock)
    door = Door(sessions, tokens, lambda: tuple(operators), clock)
    return Board(
        store, clock, door, page_templates(), documents, load_actions(), lambda: "http://127.0.0.1:4200",
        lambda: wakes.append(1),
    )  # fmt: skip
