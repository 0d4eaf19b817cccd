"""One incident from alert to closing, as a journal: what documents are tested with. Its alert text is hostile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from irflow.core.journal import GENESIS, Draft, Event, Kind, chain
from irflow.core.model import Json, to_text
from irflow.core.plan import Plan

START = datetime(2026, 3, 2, 9, 15, 0, tzinfo=UTC)
INCIDENT = "01JNBC2D4E5F6G7H8J9KMNPQRS"
HOSTILE = "</td>|# <script>alert(1)</script> [x](http://evil.example) {{7*7}} {% raw %} `${7*7}`\n# big\n```\n\u202egnp"
RESPONDER = "irflow:responder"


def _step(phase: str, runbook: str, step: str, target: str = "", **more: Json) -> dict[str, Json]:
    key = f"{phase}/{runbook}.{step}" + (f"@{target}" if target else "")
    return {"key": key, "runbook": runbook, "step": step, "title": step.capitalize(), "target": target, **more}


CONTAINMENT = Plan.model_validate({
    "incident": INCIDENT, "phase": "containment", "playbook": "system-compromise",
    "steps": [
        _step("containment", "isolate-host", "snapshot", "web-1", action="evidence.collect", on_failure="continue"),
        _step("containment", "isolate-host", "isolate", "web-1", action="host.isolate"),
        _step("containment", "isolate-host", "tell-owner", manual="Call the owner of web-1", role="communications",
              people=1),
    ],
})  # fmt: skip
RECOVERY = Plan.model_validate({
    "incident": INCIDENT, "phase": "recovery", "playbook": "system-compromise",
    "steps": [
        _step("recovery", "release-host", "release", "web-1", action="host.release", role="incident_commander",
              people=1, reasons=["host.release always needs a person"]),
    ],
})  # fmt: skip


def _opened() -> dict[str, Json]:
    return {"incident": {
        "id": INCIDENT, "number": "IR-2026-0001", "type": "system_compromise", "severity": "critical",
        "trust": "verified", "title": HOSTILE, "hosts": ["web-1"], "unknown_hosts": ["-oProxyCommand=x"],
        "addresses": ["203.0.113.9/32"], "accounts": ["root|x"], "playbook": "system-compromise",
        "detected_at": to_text(START), "drill": False,
    }}  # fmt: skip


def _evidence(name: str, seconds: float) -> dict[str, Json]:
    return {
        "path": f"{INCIDENT}/{name}", "sha256": "5e" * 32, "bytes": 40961, "who": RESPONDER, "what": "snapshot",
        "where": "web-1", "when": to_text(START + timedelta(seconds=seconds)), "how": "evidence.sh --profile snapshot",
        "clock_offset_s": 0.0123,
    }  # fmt: skip


def _outcome(action: str, *checks: tuple[str, str, str, bool], **more: Json) -> dict[str, Json]:
    return {
        "outcome": "done" if all(check[3] for check in checks) else "failed", "action": action, "detail": "",
        "facts": {}, "checks": [
            {"name": name, "before": before, "after": after, "passed": passed} for name, before, after, passed in checks
        ], "leases": [], "ended_leases": [], **more,
    }  # fmt: skip


def _planned(plan: Plan) -> dict[str, Json]:
    return {"phase": plan.phase, "digest": plan.digest, "plan": plan.model_dump(mode="json")}


def _drafts() -> list[tuple[float, Draft]]:
    snapshot, isolate, owner = (step.key for step in CONTAINMENT.steps)
    release = RECOVERY.steps[0].key
    alert = {
        "id": "01JNBC2D4E5F6G7H8J9KMNPQRT", "source": "detection", "title": HOSTILE,
        "summary": f"{HOSTILE}\nsecond line",
        "severity": "critical", "status": "firing", "fingerprint": "f00d", "raw_sha256": "ab" * 32, "trust": "verified",
        "hosts": ["web-1"], "addresses": ["203.0.113.9/32"], "accounts": ["root|x"],
        "occurred_at": to_text(START - timedelta(minutes=40)),
    }  # fmt: skip
    lease = {"kind": "isolation", "until": to_text(START + timedelta(hours=8)), "seconds": 28800.0}
    approval = {"phase": "recovery", "digest": RECOVERY.digest, "operator": "first-responder",
                "role": "incident_commander", "method": "os-account", "reason": "clean"}  # fmt: skip

    def at(
        seconds: float, kind: Kind, data: dict[str, Json], step: str = "", actor: str = RESPONDER
    ) -> tuple[float, Draft]:
        return seconds, Draft(kind, actor, data, step, "web-1" if step.endswith("@web-1") else "", 7 if step else 0)

    return [
        at(0.01, Kind.INCIDENT_OPENED, _opened(), actor="irflow:web"),
        at(0.01, Kind.ALERT_RECEIVED, {"alert": alert}, actor="irflow:web"),
        at(0.05, Kind.PHASE_PLANNED, _planned(CONTAINMENT)),
        at(0.05, Kind.PHASE_STARTED, {"phase": "containment"}),
        at(0.05, Kind.RUN_STARTED, {"phase": "containment", "run": "r1", "executor": "threads"}),
        at(0.06, Kind.STEP_INTENT, {"action": "evidence.collect", "seen": {}, "changes": [
            {"summary": "collect sockets and processes", "data": {}}]}, snapshot),
        at(0.31, Kind.STEP_OUTCOME,
           _outcome("evidence.collect", ("same hash on both ends", "-", "5e5e", True)), snapshot),
        at(0.31, Kind.EVIDENCE_TAKEN, _evidence("web-1-snapshot-090000.tar.gz", 0.3), snapshot),
        at(0.32, Kind.STEP_INTENT, {"action": "host.isolate", "seen": {}, "changes": [
            {"summary": "drop everything but the responder's own SSH", "data": {}}]}, isolate),
        at(0.51, Kind.STEP_OUTCOME, _outcome(
            "host.isolate", ("a new SSH connection works", "open", "open", True),
            ("a forbidden port is silent", "open", "silent", True), leases=[lease]), isolate),
        at(0.52, Kind.PERSON_ASKED, {"phase": "containment", "role": "communications", "people": 1, "reasons": [],
                                     "manual": "Call the owner of web-1", "digest": CONTAINMENT.digest}, owner),
        at(0.53, Kind.NOTIFICATION_SENT, {"title": "IR-2026-0001", "channels": ["email", "sms"]}),
        at(200, Kind.NOTE, {"text": f"the owner is on leave\n{HOSTILE}", "operator": "second-responder"},
           actor="operator:second-responder"),
        at(300, Kind.MANUAL_ANSWERED, {"phase": "containment", "outcome": "done", "note": "told | them",
                                       "operator": "second-responder", "facts": {}},
           owner, "operator:second-responder"),
        at(300.5, Kind.PHASE_ENDED, {"phase": "containment", "outcome": "completed"}),
        at(301, Kind.PHASE_PLANNED, _planned(RECOVERY)),
        at(301, Kind.PHASE_STARTED, {"phase": "recovery"}),
        at(301.1, Kind.PERSON_ASKED, {"phase": "recovery", "role": "incident_commander", "people": 1, "manual": None,
                                      "reasons": ["host.release always needs a person"], "digest": RECOVERY.digest},
           release),
        at(7300, Kind.CLOCK_WARNED, {"clock": "phase.recovery", "mark": "50", "human_s": 6999.0, "machine_s": 0.1,
                                     "deadline": to_text(START + timedelta(hours=4))}),
        at(9000, Kind.APPROVAL_GIVEN, approval, actor="operator:first-responder"),
        at(9001, Kind.STEP_INTENT, {"action": "host.release", "seen": {}, "changes": [
            {"summary": "take the isolation back", "data": {}}]}, release),
        at(9001.4, Kind.STEP_OUTCOME, _outcome("host.release", ("the rules equal those before", "cut", "equal", True),
                                               ended_leases=["isolation"]), release),
        at(9002, Kind.PHASE_ENDED, {"phase": "recovery", "outcome": "completed"}),
        at(9003, Kind.DOCUMENT_WRITTEN, {"name": "stakeholder-update", "path": f"{INCIDENT}/stakeholder-update.md",
                                         "sha256": "cd" * 32}),
    ]  # fmt: skip


def story(until_s: float = 1e9) -> list[Event]:
    """The events up to a number of seconds after detection."""
    events: list[Event] = []
    for seconds, draft in _drafts():
        if seconds <= until_s:
            head = (events[-1].seq, events[-1].hash) if events else (0, GENESIS)
            events += chain(INCIDENT, head, START + timedelta(seconds=seconds), [draft])
    return events
