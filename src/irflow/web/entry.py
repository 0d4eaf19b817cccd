"""What stands before every page: who may see one at all, and who has to log in first."""

from __future__ import annotations

import re
from asyncio import get_running_loop
from collections.abc import Callable
from urllib.parse import quote

from fastapi import Request, Response

from irflow.core.errors import IrflowError
from irflow.web.board import Board
from irflow.web.door import Visitor
from irflow.web.origin import from_elsewhere, is_own, may_see
from irflow.web.screen import Screen, go_to, wants_events

Make = Callable[[Visitor], Response]
# Only pages of ours, so that a login can send nobody elsewhere.
_PAGE = re.compile(r"/(leases|incidents/[\w-]+(/[\w-]+(/[\w.-]+)?)?)?(\?[\w=&-]*)?", re.ASCII)
_LONGEST = 200


def own_page(path: str) -> str:
    """A path if it is of a page of ours, else the start page's."""
    return path if len(path) <= _LONGEST and _PAGE.fullmatch(path) else "/"


class Entry:
    """Every page goes through here. Work that reads the journal or files runs in the board's threads."""

    def __init__(self, board: Board, screen: Screen) -> None:
        self.board, self.screen = board, screen

    async def show(self, request: Request, make: Make) -> Response:
        """A page for whoever has logged in."""
        return await self.work(lambda: self._shown(request, make))

    async def work(self, make: Callable[[], Response]) -> Response:
        """Make a reply in a thread; without the journal, the page that says so."""

        def guarded() -> Response:
            try:
                return make()
            except IrflowError as error:
                return self.screen.unavailable(error)

        return await get_running_loop().run_in_executor(self.board.pool, guarded)

    def _shown(self, request: Request, make: Make) -> Response:
        refused = self.not_here(request)
        if refused is not None:
            return refused
        visitor = self.board.door.visitor(request)
        if visitor is not None:
            return make(visitor)
        if wants_events(request):
            return Response("log in first", 401, media_type="text/plain")
        if from_elsewhere(request):
            return self.screen.page("again", {"title": "irflow", "url": _path(request)})
        return go_to(f"/login?next={quote(_path(request), safe='')}")

    def not_here(self, request: Request) -> Response | None:
        """The refusal for a request over a way on which pages are not shown."""
        if may_see(request):
            return None
        text = (
            "irflow's page is shown over TLS, or on this machine under its own address. "
            "Use its https address, or ssh -L to this machine."
        )
        return self.screen.message(403, "Not over this connection", text)

    def not_own(self, request: Request) -> Response | None:
        """The refusal for a form that no page of ours has sent, or that came over such a way."""
        refused = self.not_here(request)
        if refused is None and not is_own(request):
            text = "This form was not sent by irflow's own page, so nothing was done. Open the page anew and try again."
            return self.screen.message(403, "Not taken", text)
        return refused


def _path(request: Request) -> str:
    return own_page(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
