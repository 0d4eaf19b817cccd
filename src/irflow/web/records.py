"""What an incident's further pages tell: timeline, leases, evidence, documents, decisions; as plain values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

from irflow.core.errors import IrflowError
from irflow.core.journal import Event, Kind
from irflow.core.leases import standing
from irflow.core.model import Json
from irflow.core.ports import Store
from irflow.core.sentences import sentence
from irflow.core.status import IncidentStatus
from irflow.web.board import DocumentReader

PAGE = 100
"""Events on one page of the timeline."""
_LONGEST = 2000
_SAID = {
    Kind.APPROVAL_GIVEN: "yes", Kind.APPROVAL_REFUSED: "no", Kind.STEP_DECIDED: "decision",
    Kind.MANUAL_ANSWERED: "answer", Kind.ANSWER_REJECTED: "not taken", Kind.APPROVAL_TIMED_OUT: "nobody answered",
}  # fmt: skip


def timeline(store: Store, incident: str, last: int, before: int | None) -> dict[str, Json]:
    """One page of a journal, newest first. last: number of its last event. before: only events before this one."""
    end = last if before is None else max(0, min(last, before - 1))
    events = store.events(incident, max(0, end - PAGE))[: min(PAGE, end)]
    return {
        "rows": [_line(one) for one in reversed(events)],
        "older": events[0].seq if events and events[0].seq > 1 else 0, "newer": end < last,
    }  # fmt: skip


def _line(event: Event) -> dict[str, Json]:
    return {
        "seq": event.seq, "at": event.at, "kind": event.kind, "actor": event.actor, "text": _text(event),
        "said": _SAID.get(Kind(event.kind), "") if event.kind in list(Kind) else "",
    }  # fmt: skip


def _text(event: Event) -> str:
    text = sentence(event)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def decided(events: Iterable[Event]) -> list[dict[str, Json]]:
    """What people said, newest first, and what was not taken from them."""
    rows = [
        {**_line(one), **{key: str(one.data.get(key) or "") for key in ("operator", "role", "method")}}
        for one in events
        if one.kind in _SAID
    ]
    return rows[::-1]


def leases(status: IncidentStatus, now: datetime) -> list[dict[str, Json]]:
    """What is in force on which target and until when, the one that ends first at the front."""
    every = sorted((*status.leases.values(), *status.expired.values()), key=lambda one: one.until)
    return [
        {
            "number": status.incident.number, "kind": one.kind, "target": one.target, "until": one.until,
            "state": standing(status, one, now), "seen_at": one.seen_at or one.granted_at, "drift": one.drift,
            "drifted_at": one.drifted_at or "", "left_s": (one.until - now).total_seconds(),
            "ms": int(one.until.timestamp() * 1000), "start_ms": int(one.granted_at.timestamp() * 1000),
        }
        for one in every
    ]  # fmt: skip


def evidence(status: IncidentStatus) -> list[dict[str, Json]]:
    """The custody entries, newest first."""
    told = ("seq", "at", "path", "sha256", "bytes", "what", "where", "who", "how")
    return [{key: str(one.get(key) or "") for key in told} for one in reversed(status.evidence)]


def documents(status: IncidentStatus) -> list[dict[str, Json]]:
    """The documents that were written, newest first. file: their name in an address."""
    return [
        {"name": str(one.get("name") or ""), "file": _file(status, one), "sha256": str(one.get("sha256") or "")}
        for one in reversed(status.documents)
    ]


def document(status: IncidentStatus, file: str) -> dict[str, Json] | None:
    """The journal's entry of a document. Only what the journal names can be read at all."""
    return next((one for one in status.documents if _file(status, one) == file), None)


def document_text(store: DocumentReader, entry: dict[str, Json]) -> tuple[str, bool]:
    """(text, whether it is what the journal says was written). Raises IrflowError when it cannot be read."""
    try:
        text = store.get(str(entry["path"]))
    except UnicodeDecodeError:
        raise IrflowError("this document is damaged", where=str(entry["path"])) from None
    return text, hashlib.sha256(text.encode()).hexdigest() == entry.get("sha256")


def _file(status: IncidentStatus, entry: dict[str, Json]) -> str:
    """Name of a document's file; empty for a path that is not this incident's."""
    folder, _, name = str(entry.get("path") or "").partition("/")
    return name if folder == status.incident.id and "/" not in name else ""
