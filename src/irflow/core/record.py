"""Everything a document may say about an incident, as plain JSON values folded from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from irflow.core.clocks import WINDOW, Clock, clocks, elapsed
from irflow.core.journal import GENESIS, Event, Kind
from irflow.core.lessons import lessons
from irflow.core.model import Json, to_text
from irflow.core.plan import PlanStep
from irflow.core.playbook import Phase
from irflow.core.sentences import sentence
from irflow.core.status import FINISHED, IncidentStatus, PhaseStatus, State, StepStatus


def scope(status: IncidentStatus, events: Sequence[Event], now: datetime) -> dict[str, Json]:
    """The names a document template may use.

    status: the fold of events. now: the moment the document speaks for. Moments are journal texts (UTC), lengths
    are seconds. Every text that came from an alert or a person is in it unescaped.
    """
    timers = clocks(status, now)
    head = events[-1] if events else None
    found: dict[str, Json] = {
        "incident": {**status.incident.to_data(), "open": status.open, "closed_at": _text(status.closed_at),
                     "acknowledged_at": _text(status.acknowledged_at)},
        "phases": _phases(status, timers, now),
        "steps": [_step(status, planned, phase) for phase in status.phases.values() for planned in _planned(phase)],
        "timeline": [_line(status, event) for event in events],
        "clocks": [_clock(one, now) for one in timers],
        "evidence": [_custody(event) for event in events if event.kind == Kind.EVIDENCE_TAKEN],
        "approvals": _approvals(events),
        "leases": [
            {"kind": one.kind, "target": one.target, "until": to_text(one.until), "seconds": one.seconds,
             "granted_at": to_text(one.granted_at), "step": one.step}
            for one in status.leases.values()
        ],
        "alerts": [_alert(event) for event in events if event.kind == Kind.ALERT_RECEIVED],
        "documents": [
            {"name": event.data.get("name", ""), "path": event.data.get("path", ""),
             "sha256": event.data.get("sha256", ""), "at": event.at}
            for event in events if event.kind == Kind.DOCUMENT_WRITTEN
        ],
        "notes": [
            {"at": event.at, "who": event.data.get("operator", event.actor), "text": event.data["text"]}
            for event in events if event.kind == Kind.NOTE
        ],
        "open_items": open_items(status, timers, now),
        "head": {"seq": head.seq if head else 0, "hash": head.hash if head else GENESIS},
        "now": to_text(now),
    }  # fmt: skip
    return {**found, "lessons": lessons(found, events)}


def open_items(status: IncidentStatus, timers: Sequence[Clock], now: datetime) -> list[str]:
    """What is not finished, one line each: the most urgent first."""
    items = []
    for step in status.steps.values():
        detail = step.outcome.get("detail") or step.outcome.get("note")
        if step.state not in FINISHED and step.state not in (State.PENDING, State.AWAITING):
            items.append(f"{step.key} is {step.state.value}" + (f": {detail}" if detail else ""))
    items += [
        f"{one.name} missed its deadline of {one.deadline:%Y-%m-%d %H:%M:%S} UTC" for one in timers if not one.met(now)
    ]
    items += [f"{step.key} waits for a person" for step in status.waiting()]
    items += [
        f"{one.target} is held by {one.kind} until {one.until:%Y-%m-%d %H:%M:%S} UTC, or longer while this is open"
        for one in status.leases.values()
    ]
    items += [
        f"{one.kind} of {one.target} ran out at {one.until:%Y-%m-%d %H:%M:%S} UTC, so it may be open"
        for one in status.expired.values()
    ]
    items += [f"{name} is not in the inventory, so nothing was done on it" for name in status.incident.unknown_hosts]
    for name in Phase if status.open else ():
        phase = status.phases.get(name)
        if phase is None or phase.ended_at is None:
            items.append(f"{name} is {'blocked' if phase and phase.blocked else 'not finished'}")
    return items


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else to_text(moment)


def _planned(phase: PhaseStatus) -> tuple[PlanStep, ...]:
    return phase.plan.steps if phase.plan else ()


def _phases(status: IncidentStatus, timers: Sequence[Clock], now: datetime) -> list[dict[str, Json]]:
    """The four phases in order, begun or not, then runbooks that ran by themselves."""
    timer = {one.name: one for one in timers}
    names = [*(phase.value for phase in Phase), *(name for name in status.phases if name not in list(Phase))]
    rows: list[dict[str, Json]] = []
    for name in names:
        phase = status.phases.get(name) or PhaseStatus(name)
        total, machine, human = elapsed(phase, now)
        clock = timer.get(f"phase.{name}")
        done = phase.ended_at is not None
        since = (phase.ended_at or now) - status.incident.detected_at
        rows.append({
            "phase": name, "started_at": _text(phase.started_at), "ended_at": _text(phase.ended_at),
            "outcome": phase.outcome, "blocked": phase.blocked, "elapsed_s": total, "machine_s": machine,
            "human_s": human, "window_s": WINDOW[Phase(name)].total_seconds() if clock else None,
            "deadline": to_text(clock.deadline) if clock else None, "since_detection_s": since.total_seconds(),
            # Not yet decided while it runs inside its window.
            "met": clock.met(now) if clock and (done or not clock.met(now)) else None,
            "digest": phase.plan.digest if phase.plan else None,
            "revision": phase.plan.revision if phase.plan else 0,
        })  # fmt: skip
    return rows


def _step(status: IncidentStatus, planned: PlanStep, phase: PhaseStatus) -> dict[str, Json]:
    known: StepStatus = status.step(planned.key)
    seconds = None
    if known.started_at and known.ended_at:
        seconds = (known.ended_at - known.started_at).total_seconds()
    return {
        "key": planned.key, "phase": phase.phase, "runbook": planned.runbook, "step": planned.step,
        "title": planned.title, "action": planned.action, "manual": planned.manual, "target": planned.target,
        "role": planned.role, "people": planned.people, "reasons": list(planned.reasons), "state": known.state.value,
        "detail": known.outcome.get("detail", ""), "note": known.outcome.get("note", ""),
        "operator": known.outcome.get("operator", ""), "asked_at": _text(known.asked_at),
        "started_at": _text(known.started_at), "ended_at": _text(known.ended_at), "seconds": seconds,
        "attempts": known.attempts, "changes": [change["summary"] for change in known.changes],
        "checks": list(known.outcome.get("checks", ())), "facts": known.outcome.get("facts", {}),
    }  # fmt: skip


def _line(status: IncidentStatus, event: Event) -> dict[str, Json]:
    return {
        "seq": event.seq, "at": event.at, "kind": event.kind, "actor": event.actor, "step": event.step,
        "target": event.target, "text": sentence(event), "hash": event.hash,
        "offset_s": (event.moment - status.incident.detected_at).total_seconds(),
    }  # fmt: skip


def _clock(one: Clock, now: datetime) -> dict[str, Json]:
    return {
        "name": one.name, "started_at": to_text(one.started_at), "deadline": to_text(one.deadline),
        "stopped_at": _text(one.stopped_at), "used": one.used(now), "met": one.met(now),
        "window_s": (one.deadline - one.started_at).total_seconds(), "machine_s": one.machine_s, "human_s": one.human_s,
        "taken_s": ((one.stopped_at or now) - one.started_at).total_seconds(),
    }  # fmt: skip


def _custody(event: Event) -> dict[str, Json]:
    """One custody entry: who, what, where, when and by which clock, how, hash (DESIGN rule 12)."""
    data = event.data
    return {
        "seq": event.seq, "at": event.at, "path": data.get("path", ""), "sha256": data.get("sha256", ""),
        "bytes": data.get("bytes"), "who": data.get("who", event.actor), "what": data.get("what", ""),
        "where": data.get("where", event.target), "when": data.get("when", event.at), "how": data.get("how", ""),
        "clock_offset_s": data.get("clock_offset_s"), "step": event.step,
    }  # fmt: skip


def _approvals(events: Sequence[Event]) -> list[dict[str, Json]]:
    """What people said to plans, and to the steps of those that go step by step."""
    names = ("operator", "role", "method", "phase", "digest")
    return [
        {"at": event.at, "answer": answer, "reason": event.data.get("reason") or event.data.get("note") or "",
         **{name: event.data.get(name, "") for name in names}}
        for event in events if (answer := _said(event))
    ]  # fmt: skip


def _said(event: Event) -> str:
    """`yes` or `no` to a plan; the decision and the step where one step was asked about; else nothing."""
    if event.kind == Kind.STEP_DECIDED:
        return f"{event.data['decision']}: {event.step.partition('/')[2]}"
    return {Kind.APPROVAL_GIVEN.value: "yes", Kind.APPROVAL_REFUSED.value: "no"}.get(event.kind, "")


def _alert(event: Event) -> dict[str, Json]:
    one = event.data.get("alert", event.data)
    return {
        "at": event.at, **{key: one.get(key, "") for key in ("source", "title", "summary", "severity", "status",
                                                             "fingerprint", "raw_sha256", "trust")},
        "hosts": list(one.get("hosts", ())), "addresses": list(one.get("addresses", ())),
        "accounts": list(one.get("accounts", ())),
    }  # fmt: skip
