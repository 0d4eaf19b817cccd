"""The addresses of irflow's page."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response
from sse_starlette import EventSourceResponse

from irflow.core.errors import UsageError
from irflow.core.incident import Incident
from irflow.web import pages
from irflow.web.answering import Share, answer_form
from irflow.web.board import Board
from irflow.web.body import TooLarge, TooSlow
from irflow.web.door import Visitor
from irflow.web.entry import Entry
from irflow.web.form import Form, read_form
from irflow.web.news import News
from irflow.web.screen import SAFE, Screen

_LISTED: dict[str, pages.Page] = {
    "leases": pages.leases_of, "evidence": pages.evidence_page, "documents": pages.documents_page,
    "decisions": pages.decisions_page,
}  # fmt: skip
_MOST_DIGITS = 12
GRACE_S = 2.5
"""How long listeners may take to go when the process ends; they look once a second."""


class Routes:
    """Pages, answers and news. entry: what every request passes first."""

    def __init__(self, entry: Entry, news: News) -> None:
        self.entry, self.news = entry, news
        self.board: Board = entry.board
        self.screen: Screen = entry.screen
        self._share = Share(self.board.clock)

    async def of_incident(self, request: Request, number: str, page: pages.Page) -> Response:
        """A page about one incident, or that there is none of this number."""

        def make(visitor: Visitor) -> Response:
            incident = self.board.find(number)
            if incident is None:
                return self.screen.message(404, "Not found", "There is no such incident.", visitor)
            return page(self.board, self.screen, visitor, incident)

        return await self.entry.show(request, make)

    async def answered(self, request: Request, number: str, id_: str) -> Response:
        """An answer; the checks stand in the order in which they cost something."""
        try:
            form = await read_form(request)
        except (TooLarge, TooSlow, UsageError) as error:
            why = str(error)
            return await self.entry.work(lambda: self.screen.message(413, "Not taken", why))
        found: list[Visitor] = []
        refused = await self.entry.work(lambda: self._not_taken(request, form, found) or Response())
        if not found:
            return refused
        pause = self._share.pause(found[0].operator.name)
        if pause:
            text = f"These are too many answers: wait {pause} s."
            return await self.entry.work(lambda: self.screen.message(429, "Not taken", text, found[0]))

        def give(board: Board, screen: Screen, visitor: Visitor, incident: Incident) -> Response:
            return answer_form(board, screen, visitor, incident, id_, form)

        return await self.of_incident(request, number, give)

    def _not_taken(self, request: Request, form: Form, found: list[Visitor]) -> Response | None:
        """Why a form is not looked at; else its sender is in `found`."""
        refused = self.entry.not_own(request)
        if refused is not None:
            return refused
        visitor = self.board.door.visitor(request)
        if visitor is None:
            typed = [one for one in (form.text("note"), form.text("evidence")) if one]
            return self.screen.page("ended", {"title": "Log in again", "typed": typed}, status=401)
        if not self.board.door.sessions.is_form_token(visitor.session, form.text("form_token")):
            text = "This form is not of your session, so nothing was done. Open the question anew and answer there."
            return self.screen.message(403, "Not taken", text, visitor)
        found.append(visitor)
        return None

    async def told(self, request: Request, number: str | None) -> Response:
        """News of one incident, or of the whole journal."""
        board, incident = self.board, ""
        known: list[str] = []

        def make(_visitor: Visitor) -> Response:
            if number is not None:
                found = board.find(number)
                if found is None:
                    return Response("no such incident", 404, SAFE, media_type="text/plain")
                known.append(found.id)
            if self.news.full:
                return Response("too many listen", 503, {**SAFE, "retry-after": "30"}, media_type="text/plain")
            return Response()

        reply = await self.entry.show(request, make)
        if reply.status_code != 200:
            return reply
        incident = known[0] if known else ""

        def last() -> int:
            return board.statuses.look(incident, lambda status: status.last_seq) if incident else board.store.position()

        changes = self.news.changes(last, lambda: board.door.visitor(request) is not None)
        return EventSourceResponse(
            changes, headers=SAFE, ping=20, shutdown_event=self.news.over, shutdown_grace_period=GRACE_S
        )


def page_routes(entry: Entry, news: News) -> APIRouter:
    """All pages that need a login."""
    router = APIRouter()
    routes = Routes(entry, news)

    @router.get("/")
    async def start(request: Request) -> Response:
        return await entry.show(request, lambda who: pages.start_page(entry.board, entry.screen, who))

    @router.get("/leases")
    async def leases(request: Request) -> Response:
        return await entry.show(request, lambda who: pages.leases_page(entry.board, entry.screen, who))

    @router.get("/events")
    async def all_news(request: Request) -> Response:
        return await routes.told(request, None)

    @router.get("/incidents/{number}")
    async def incident(request: Request, number: str) -> Response:
        answered = _number(request.query_params.get("answered", ""))
        return await routes.of_incident(request, number, partial(pages.incident_page, answered=answered))

    @router.get("/incidents/{number}/events")
    async def news_of(request: Request, number: str) -> Response:
        return await routes.told(request, number)

    @router.get("/incidents/{number}/timeline")
    async def timeline(request: Request, number: str) -> Response:
        before = _number(request.query_params.get("before", ""))
        return await routes.of_incident(request, number, partial(pages.timeline_page, before=before))

    @router.get("/incidents/{number}/questions/{id_}")
    async def question(request: Request, number: str, id_: str) -> Response:
        return await routes.of_incident(request, number, partial(pages.question_page, id_=id_))

    @router.post("/incidents/{number}/questions/{id_}")
    async def answer(request: Request, number: str, id_: str) -> Response:
        return await routes.answered(request, number, id_)

    @router.get("/incidents/{number}/documents/{file}")
    async def document(request: Request, number: str, file: str) -> Response:
        return await routes.of_incident(request, number, partial(pages.document_page, file=file))

    for name, page in _LISTED.items():
        _add(router, routes, name, page)
    return router


def _add(router: APIRouter, routes: Routes, name: str, page: pages.Page) -> None:
    @router.get(f"/incidents/{{number}}/{name}", name=name)
    async def listed(request: Request, number: str) -> Response:
        return await routes.of_incident(request, number, page)


def _number(text: str) -> int | None:
    """A sequence number of a query; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) else None
