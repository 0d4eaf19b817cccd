"""An incident in the journal of a site, in which something of every kind waits for people. Its text may be hostile."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ulid import ULID

from irflow.adapters.document_store import FileDocumentStore
from irflow.core.alert import Trust
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.mode import Mode
from irflow.core.model import to_text
from irflow.core.plan import Plan, PlanStep
from irflow.core.ports import Store, Transaction
from irflow.core.questions import Ask, Question, questions
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus, fold

RESPONDER = "irflow:responder"
FLOW_RUN = "0f0e0d0c-0b0a-4908-8706-050403020100"
FIELDS: dict[str, Any] = {
    "reached": {"type": "boolean", "required": True, "description": "Whether the owner was reached"},
    "back_at": {"type": "duration", "description": "When they will be called again"},
    "channel": {"type": "string", "choices": ["phone", "chat"], "default": "phone"},
    "users": {"type": "integer", "description": "People who cannot work"},
    "seen_from": {"type": "addresses", "description": "Where logins came from"},
    "parts": {"type": "strings", "choices": ["mail", "web", "shop"], "default": ["web"]},
}


def _step(phase: str, runbook: str, name: str, target: str = "", **more: Any) -> PlanStep:
    key = f"{phase}/{runbook}.{name}" + (f"@{target}" if target else "")
    return PlanStep(key=key, runbook=runbook, step=name, target=target, **{"title": name.capitalize(), **more})


@dataclass
class Scene:
    """An incident, with the means to go on with it."""

    store: Store
    incident: Incident
    plans: dict[str, Plan]

    @property
    def number(self) -> str:
        return self.incident.number

    @property
    def url(self) -> str:
        return f"/incidents/{self.incident.number}"

    def status(self) -> IncidentStatus:
        return fold(self.store.events(self.incident.id))

    def question(self, ask: Ask) -> Question:
        """The only one of this kind that waits."""
        (found,) = [one for one in questions(self.status()) if one.ask is ask]
        return found

    def form_url(self, ask: Ask) -> str:
        return f"{self.url}/questions/{self.question(ask).id}"

    def events(self, kind: Kind) -> list[dict[str, Any]]:
        return [dict(one.data) for one in self.store.events(self.incident.id) if one.kind == kind]

    def add(self, *drafts: Draft) -> None:
        self.store.transact(lambda tx: tx.append(self.incident.id, *drafts))

    def ask(self, plan: Plan, step: PlanStep, **more: Any) -> None:
        self.add(_asked(plan, step, **more))

    def note(self, text: str) -> None:
        self.add(Draft(Kind.NOTE, "operator:ann", {"text": text, "operator": "ann"}))

    def begin(self, phase: str) -> None:
        """A phase is planned, begins, and at once asks about what needs people."""
        plan = self.plans[phase]
        self.add(_planned(plan), Draft(Kind.PHASE_STARTED, RESPONDER, {"phase": phase}))
        asked = plan.steps[:1] if plan.mode is Mode.STEP else plan.steps
        self.add(*(_asked(plan, one) for one in asked if one.people))

    def close(self) -> None:
        def work(tx: Transaction) -> None:
            tx.append(self.incident.id, Draft(Kind.INCIDENT_CLOSED, "operator:ann", {"reason": "over"}))
            tx.index_incident(self.incident, closed=True)

        self.store.transact(work)


def _asked(plan: Plan, step: PlanStep, **more: Any) -> Draft:
    data = {
        "phase": plan.phase, "digest": plan.digest, "role": step.role, "people": step.people,
        "reasons": list(step.reasons), "title": step.title, "manual": step.manual, "would": [], **more,
    }  # fmt: skip
    return Draft(Kind.PERSON_ASKED, RESPONDER, data, step.key, step.target)


def _planned(plan: Plan) -> Draft:
    return Draft(
        Kind.PHASE_PLANNED, RESPONDER,
        {"phase": plan.phase, "digest": plan.digest, "plan": plan.model_dump(mode="json")},
    )  # fmt: skip


def scene(
    store: Store, now: datetime, documents: FileDocumentStore | None = None, *, text: str = "", people: int = 2,
    severity: Severity = Severity.CRITICAL, parts: tuple[str, ...] = ("approval", "manual", "step", "records"),
) -> Scene:  # fmt: skip
    """Open it. text: goes into everything that an alert, a target or a person can fill. people: the approval needs."""
    id_ = str(ULID())
    incident = Incident(
        id=id_, type="system_compromise", severity=severity, trust=Trust.VERIFIED,
        title=text or "Beacon from a deleted binary", hosts=("web-1", "web-2"), unknown_hosts=(text,) if text else (),
        addresses=("203.0.113.9/32",), accounts=(text,) if text else ("deploy",), playbook="system-compromise",
        detected_at=now - timedelta(minutes=4),
    )  # fmt: skip
    incident = store.transact(lambda tx: tx.open_incident(incident, "irflow:web"))
    plans = _plans(id_, text, people)
    made = Scene(store, incident, plans)
    if "records" in parts:
        _records(made, now, text, documents)
    recovery = plans["recovery"]
    if "approval" in parts:
        made.begin("containment")
        data = {"question": made.question(Ask.APPROVAL).id, "flow_run": FLOW_RUN, "phase": "containment"}
        made.add(Draft(Kind.FORM_SHOWN, "irflow:flow", data))
    if "manual" in parts:
        made.begin("detection")
    if "step" in parts:
        made.add(_planned(recovery), Draft(Kind.PHASE_STARTED, RESPONDER, {"phase": "recovery"}))
        made.ask(recovery, recovery.steps[0], would=[text or "stop shop.service on web-1 and keep it from starting"])
    return made


def _plans(id_: str, text: str, people: int) -> dict[str, Plan]:
    asked = {
        "role": "incident_commander", "people": people,
        "reasons": (text or "more than one host is cut off: two people must agree",),
    }  # fmt: skip
    hosts = ("web-1", "web-2")
    return {
        "containment": Plan(
            incident=id_, phase="containment", playbook="system-compromise",
            steps=(
                *(_step("containment", "isolate-host", "snapshot", one, action="evidence.collect",
                        title="Sockets and processes, before the cut", params={"host": one, "profile": "snapshot"})
                  for one in hosts),
                *(_step("containment", "isolate-host", "isolate", one, action="host.isolate",
                        title=text or "Isolate, keeping the responder's own way in",
                        params={"host": one, "lease": 28800, "allow": [text] if text else []}, **asked)
                  for one in hosts),
            ),
            refusals=(text or "db-1: it is protected",),
        ),
        "detection": Plan(
            incident=id_, phase="detection", playbook="system-compromise",
            steps=(
                _step("detection", "triage", "tell-owner", title=text or "Tell the service owner",
                      manual=text or "Call the owner of web-1 and web-2: the hosts are cut off the network.",
                      role="communications", people=1, fields=FIELDS),
            ),
        ),
        "recovery": Plan(
            incident=id_, phase="recovery", playbook="system-compromise", mode=Mode.STEP,
            steps=(
                _step("recovery", "stop-services", "stop", "web-1", action="service.stop", title="Stop the shop",
                      params={"host": "web-1", "services": ["shop.service"]}, role="technical_lead", people=1),
                _step("recovery", "stop-services", "kill", "web-1", action="process.kill_tree", title="Kill it",
                      params={"host": "web-1"}, role="technical_lead", people=1),
            ),
        ),
    }  # fmt: skip


def _records(made: Scene, now: datetime, text: str, documents: FileDocumentStore | None) -> None:
    id_, body = made.incident.id, f"# Incident report\n\n{text or 'All is written down.'}\n\n| a | b |\n|---|---|\n"
    path, sha256 = f"{id_}/incident-report.md", hashlib.sha256(body.encode()).hexdigest()
    if documents is not None:
        path = documents.put(id_, "incident-report", body).path
    lease = {"kind": "isolation", "until": to_text(now + timedelta(hours=7, minutes=59)), "seconds": 28800.0}
    made.add(
        Draft(Kind.EVIDENCE_TAKEN, RESPONDER, {
            "path": f"{id_}/web-1-snapshot-120000.tar.gz", "sha256": "5e" * 32, "bytes": 40961, "who": RESPONDER,
            "what": text or "snapshot", "where": "web-1", "how": "evidence.sh --profile snapshot",
        }, "containment/isolate-host.snapshot@web-1", "web-1"),
        Draft(Kind.DOCUMENT_WRITTEN, RESPONDER, {"name": "incident-report", "path": path, "sha256": sha256}),
        Draft(Kind.LEASE_RENEWED, RESPONDER, lease, "containment/isolate-host.isolate@web-1", "web-1"),
        Draft(Kind.LEASE_DRIFTED, RESPONDER, {"kind": "isolation", "finding": "gone", "reason": text or "flushed"},
              "containment/isolate-host.isolate@web-1", "web-1"),
        Draft(Kind.NOTE, "operator:ben", {"text": text or "the owner is on leave", "operator": "ben"}),
    )  # fmt: skip
