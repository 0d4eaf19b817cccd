"""`/login` and `/logout`: an operator's token becomes a session."""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request, Response

from irflow.core.errors import UsageError
from irflow.core.model import Json
from irflow.web.body import TooLarge, TooSlow
from irflow.web.door import drop_cookie, keep_cookie
from irflow.web.entry import Entry, own_page
from irflow.web.form import Form, read_form
from irflow.web.screen import go_to

log = logging.getLogger(__name__)

_LONGEST = 200


class Login:
    """The two forms. entry: what every request passes first."""

    def __init__(self, entry: Entry) -> None:
        self._entry, self._door, self._screen = entry, entry.board.door, entry.screen

    async def asked(self, request: Request) -> Response:
        """The form."""
        next_ = request.query_params.get("next", "")
        return await self._entry.work(lambda: self._entry.not_here(request) or self._page(next_))

    async def entered(self, request: Request) -> Response:
        """A try. How many there were is looked at before the token is."""
        refused = await self._entry.work(lambda: self._entry.not_own(request) or Response())
        if refused.status_code != 200:
            return refused
        pause = self._door.pause(request)
        if pause:
            log.warning("too many logins from %s", request.client)
            text = f"Too many tries: wait {pause} s, then try again."
            reply = await self._entry.work(lambda: self._page("", text, 429))
            reply.headers["retry-after"] = str(pause)
            return reply
        try:
            form = await read_form(request)
        except (TooLarge, TooSlow, UsageError) as error:
            why = str(error)
            return await self._entry.work(lambda: self._page("", why, 422))
        reply = await self._entry.work(lambda: self._let_in(request, form))
        if reply.status_code == 303:
            self._door.was_no_guess(request)
        return reply

    async def left(self, request: Request) -> Response:
        """A logout; only the session's own form does it."""
        try:
            form = await read_form(request)
        except (TooLarge, TooSlow, UsageError):
            form = Form({})
        return await self._entry.work(lambda: self._let_out(request, form))

    def _page(self, next_: str, error: str = "", status: int = 200) -> Response:
        scope: dict[str, Json] = {"title": "Log in", "next": own_page(next_), "error": error}
        return self._screen.page("login", scope, status=status)

    def _let_in(self, request: Request, form: Form) -> Response:
        next_ = form.text("next")
        found = self._door.enter(form.text("token").strip()[:_LONGEST])
        if found is None:
            log.warning("a login from %s was refused", request.client)
            return self._page(next_, "This is no operator's token, or its operator is not in operators.yaml.", 401)
        operator, cookie = found
        log.info("%s has logged in from %s", operator.name, request.client)
        reply = go_to(own_page(next_))
        keep_cookie(request, reply, cookie)
        return reply

    def _let_out(self, request: Request, form: Form) -> Response:
        refused = self._entry.not_own(request)
        if refused is not None:
            return refused
        sessions, visitor = self._door.sessions, self._door.visitor(request)
        if visitor is not None and not sessions.is_form_token(visitor.session, form.text("form_token")):
            text = "This form is not of your session. Open the page anew."
            return self._screen.message(403, "Not taken", text, visitor)
        if visitor is not None:
            sessions.end(visitor.session)
        reply = go_to("/login")
        drop_cookie(request, reply)
        return reply


def login_routes(entry: Entry) -> APIRouter:
    """Logging in and out."""
    router = APIRouter()
    login = Login(entry)

    @router.get("/login")
    async def ask(request: Request) -> Response:
        return await login.asked(request)

    @router.post("/login")
    async def enter(request: Request) -> Response:
        return await login.entered(request)

    @router.post("/logout")
    async def leave(request: Request) -> Response:
        return await login.left(request)

    return router
