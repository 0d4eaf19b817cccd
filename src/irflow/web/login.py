"""`/login` and `/logout`: an operator's token becomes a session."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response

from irflow.core.errors import UsageError
from irflow.web.body import TooLarge, TooSlow
from irflow.web.door import drop_cookie, keep_cookie
from irflow.web.entry import Entry, own_page
from irflow.web.form import Form, read_form
from irflow.web.screen import go_to

log = logging.getLogger(__name__)

_LONGEST = 200


def login_routes(entry: Entry) -> APIRouter:
    """Logging in and out."""
    router = APIRouter()
    door, screen = entry.board.door, entry.screen

    def page(next_: str, error: str = "", status: int = 200) -> Response:
        return screen.page("login", {"title": "Log in", "next": own_page(next_), "error": error}, status=status)

    @router.get("/login")
    async def ask(request: Request) -> Response:
        next_ = request.query_params.get("next", "")
        return await entry.work(lambda: entry.not_here(request) or page(next_))

    @router.post("/login")
    async def enter(request: Request) -> Response:
        refused = await entry.work(lambda: entry.not_own(request) or Response())
        if refused.status_code != 200:
            return refused
        pause = door.pause(request)
        if pause:
            log.warning("too many logins from %s", request.client)
            reply = await entry.work(lambda: page("", f"Too many tries: wait {pause} s, then try again.", 429))
            reply.headers["retry-after"] = str(pause)
            return reply
        try:
            form = await read_form(request)
        except (TooLarge, TooSlow, UsageError) as error:
            why = str(error)
            return await entry.work(lambda: page("", why, 422))
        return await entry.work(lambda: _entered(request, form))

    def _entered(request: Request, form: Form) -> Response:
        next_ = form.text("next")
        found = door.enter(form.text("token").strip()[:_LONGEST])
        if found is None:
            log.warning("a login from %s was refused", request.client)
            return page(next_, "This is no operator's token, or its operator is not in operators.yaml.", 401)
        operator, cookie = found
        log.info("%s has logged in from %s", operator.name, request.client)
        reply = go_to(own_page(next_))
        keep_cookie(request, reply, cookie)
        return reply

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        try:
            form = await read_form(request)
        except (TooLarge, TooSlow, UsageError):
            form = Form({})
        return await entry.work(lambda: _left(request, form))

    def _left(request: Request, form: Form) -> Response:
        refused = entry.not_own(request)
        if refused is not None:
            return refused
        visitor = door.visitor(request)
        if visitor is not None and not door.sessions.is_form_token(visitor.session, form.text("form_token")):
            return screen.message(403, "Not taken", "This form is not of your session. Open the page anew.", visitor)
        if visitor is not None:
            door.sessions.end(visitor.session)
        reply = go_to("/login")
        drop_cookie(request, reply)
        return reply

    return router
