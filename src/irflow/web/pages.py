"""The pages themselves: what each shows, from the journal as it is now."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from fastapi import Response

from irflow.core.incident import Incident
from irflow.core.journal import Kind
from irflow.core.model import Json
from irflow.core.questions import question, questions
from irflow.core.sentences import sentence
from irflow.web import overview, records
from irflow.web.board import Board
from irflow.web.door import Visitor
from irflow.web.form import Form
from irflow.web.questions import in_full
from irflow.web.screen import Screen

MOST_OPEN = 200
CLOSED = 20
_OWN_WORDS = (Kind.APPROVAL_GIVEN, Kind.APPROVAL_REFUSED, Kind.STEP_DECIDED, Kind.MANUAL_ANSWERED)

Page = Callable[[Board, Screen, Visitor, Incident], Response]


def start_page(board: Board, screen: Screen, visitor: Visitor) -> Response:
    """All open incidents, and above them what waits for whoever looks."""
    position, now = board.store.position(), board.clock.now()
    rows = [
        board.statuses.look(one.id, lambda status: overview.incident_row(status, visitor.operator, now))
        for one, _ in board.store.incidents(closed=False, limit=MOST_OPEN)
    ]
    rows.sort(key=overview.by_deadline)
    waiting = overview.soonest([asked for row in rows for asked in row["waiting"]])
    closed = [
        {"number": one.number, "title": one.title, "severity": one.severity.value, "detected_at": one.detected_at}
        for one, _ in board.store.incidents(closed=True, limit=CLOSED)
    ]
    scope: dict[str, Json] = {
        "title": "Incidents", "seq": position, "rows": rows, "closed": closed,
        "mine": [one for one in waiting if one["mine"]], "others": [one for one in waiting if not one["mine"]],
    }  # fmt: skip
    return screen.page("start", scope, visitor, events="/events", refresh=True)


def leases_page(board: Board, screen: Screen, visitor: Visitor) -> Response:
    """What is in force anywhere."""
    position, now = board.store.position(), board.clock.now()
    found = [
        row
        for one, _ in board.store.incidents(closed=False, limit=MOST_OPEN)
        for row in board.statuses.look(one.id, lambda status: records.leases(status, now))
    ]
    found.sort(key=lambda row: row["ms"])
    scope: dict[str, Json] = {"title": "Leases", "seq": position, "leases": found, "number": ""}
    return screen.page("leases", scope, visitor, events="/events", refresh=True)


def incident_page(
    board: Board, screen: Screen, visitor: Visitor, incident: Incident, *, answered: int | None = None
) -> Response:
    """One incident. answered: number of the event that the visitor's own answer became."""
    now, ui, operators = board.clock.now(), board.prefect_ui(), board.door.operators()
    scope: dict[str, Json] = board.statuses.look(
        incident.id,
        lambda status: {
            "facts": overview.facts(status), "seq": status.last_seq, "phases": overview.phases(status, now),
            "leases": records.leases(status, now),
            "asked": [
                in_full(status, one, visitor.operator, operators, now, board.actions, ui) for one in questions(status)
            ],
        },
    )  # fmt: skip
    scope["asked"] = overview.soonest(scope["asked"])
    latest = records.timeline(board.store, incident.id, scope["seq"], None)["rows"][:8]
    said = _said(board, visitor, incident, answered)
    extra: dict[str, Json] = {"title": incident.number, "latest": latest, "said": said}
    return screen.page("incident", {**scope, **extra}, visitor, events=_events(incident), refresh=True)


def question_page(
    board: Board, screen: Screen, visitor: Visitor, incident: Incident, id_: str, *, typed: Form | None = None,
    error: str = "", status: int = 200,
) -> Response:  # fmt: skip
    """One question with its form. typed, error: what was sent, and why it was not taken. Never loads itself again."""
    now, ui, operators = board.clock.now(), board.prefect_ui(), board.door.operators()
    scope: dict[str, Json] = board.statuses.look(
        incident.id,
        lambda known: {
            "facts": overview.facts(known), "seq": known.last_seq,
            "one": next(
                (in_full(known, one, visitor.operator, operators, now, board.actions, ui)
                 for one in [question(known, id_)] if one), None,
            ),
        },
    )  # fmt: skip
    form = typed or Form({})
    one = scope["one"]
    for field in one["fields"] if one else ():
        given = form.texts(f"field.{field['name']}")
        field["value"] = "\n".join(given) if typed else field["default"]
        field["values"] = given if typed else [part.strip() for part in field["default"].split(",")]
    extra: dict[str, Json] = {
        "title": one["title"] if one else "No longer asked", "error": error, "once": secrets.token_urlsafe(16),
        "choice": form.text("choice"), "note": form.text("note"), "evidence": form.text("evidence"),
    }  # fmt: skip
    status = status if one or error else 404
    return screen.page("question", {**scope, **extra}, visitor, status=status, events=_events(incident) if one else "")


def timeline_page(board: Board, screen: Screen, visitor: Visitor, incident: Incident, before: int | None) -> Response:
    """The journal, newest first. Only its first page is live: the others do not change."""
    facts, last = board.statuses.look(incident.id, lambda status: (overview.facts(status), status.last_seq))
    scope = {
        "title": f"Timeline of {incident.number}", "facts": facts, "seq": last,
        **records.timeline(board.store, incident.id, last, before),
    }  # fmt: skip
    live = before is None
    return screen.page("timeline", scope, visitor, events=_events(incident) if live else "", refresh=live)


def leases_of(board: Board, screen: Screen, visitor: Visitor, incident: Incident) -> Response:
    """What is in force for one incident."""
    now = board.clock.now()
    found, last = board.statuses.look(incident.id, lambda status: (records.leases(status, now), status.last_seq))
    scope: dict[str, Json] = {
        "title": f"Leases of {incident.number}", "seq": last, "leases": found, "number": incident.number
    }  # fmt: skip
    return screen.page("leases", scope, visitor, events=_events(incident), refresh=True)


def evidence_page(board: Board, screen: Screen, visitor: Visitor, incident: Incident) -> Response:
    """The custody entries. The evidence itself is never shown here."""
    return _listed(board, screen, visitor, incident, "evidence", "Evidence")


def documents_page(board: Board, screen: Screen, visitor: Visitor, incident: Incident) -> Response:
    """The documents that were written."""
    return _listed(board, screen, visitor, incident, "documents", "Documents")


def _listed(board: Board, screen: Screen, visitor: Visitor, incident: Incident, name: str, title: str) -> Response:
    read = records.evidence if name == "evidence" else records.documents
    scope = board.statuses.look(
        incident.id,
        lambda status: {"facts": overview.facts(status), "seq": status.last_seq, "rows": read(status)},
    )
    scope["title"] = f"{title} of {incident.number}"
    return screen.page(name, scope, visitor, events=_events(incident), refresh=True)


def document_page(board: Board, screen: Screen, visitor: Visitor, incident: Incident, file: str) -> Response:
    """One document as plain text, and whether it is what the journal says was written."""
    facts, entry = board.statuses.look(
        incident.id, lambda status: (overview.facts(status), records.document(status, file))
    )
    if entry is None:
        return screen.message(404, "Not found", f"The journal of {incident.number} names no such document.", visitor)
    text, intact = records.document_text(board.documents, entry)
    scope: dict[str, Json] = {
        "title": file, "facts": facts, "body": text, "intact": intact, "sha256": str(entry.get("sha256") or ""),
    }  # fmt: skip
    return screen.page("document", scope, visitor)


def decisions_page(board: Board, screen: Screen, visitor: Visitor, incident: Incident) -> Response:
    """Who said what, and what was not taken."""
    facts, last = board.statuses.look(incident.id, lambda status: (overview.facts(status), status.last_seq))
    scope: dict[str, Json] = {
        "title": f"Decisions in {incident.number}", "facts": facts, "seq": last,
        "rows": records.decided(board.store.events(incident.id)),
    }  # fmt: skip
    return screen.page("decisions", scope, visitor, events=_events(incident), refresh=True)


def _events(incident: Incident) -> str:
    return f"/incidents/{incident.number}/events"


def _said(board: Board, visitor: Visitor, incident: Incident, seq: int | None) -> str:
    """The visitor's own answer in a sentence; empty when the number is of anything else."""
    if seq is None:
        return ""
    event = next(iter(board.store.events(incident.id, seq - 1)), None)
    if event is None or event.kind not in _OWN_WORDS or event.data.get("operator") != visitor.operator.name:
        return ""
    return sentence(event)
