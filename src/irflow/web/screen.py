"""How a page goes out: filled, with the headers that let it load and run nothing but our own two files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from irflow.core.errors import IrflowError
from irflow.core.identity import Deed, allows
from irflow.core.model import Json, to_text
from irflow.web.board import Board
from irflow.web.door import Visitor

log = logging.getLogger(__name__)

SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {**SAFE, "content-security-policy": POLICY, "cache-control": "no-store"}
REFRESH_S = 15
"""How often a page without JavaScript loads itself again."""

_STATIC = Path(__file__).with_name("static")
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def _static() -> dict[str, tuple[bytes, str]]:
    """(content, media type) by the name in the address, which changes with the content."""
    found = {}
    for path in sorted(_STATIC.iterdir()):
        if path.suffix in _TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[f"{path.stem}.{digest}{path.suffix}"] = (content, _TYPES[path.suffix])
    return found


class Screen:
    """Fills pages and sends them."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._files = _static()
        self._links = {f"{name.rpartition('.')[2]}_url": f"/static/{name}" for name in self._files}

    def page(
        self, template: str, scope: Mapping[str, Json], visitor: Visitor | None = None, *, status: int = 200,
        events: str = "", refresh: bool = False,
    ) -> Response:  # fmt: skip
        """A page. events: address of its news, empty where it is not live. refresh: it loads itself again without
        JavaScript; never a page with a form to fill in. Reads the journal: call it off the event loop.
        """
        now = self._board.clock.now()
        common: dict[str, Json] = {
            **self._links, "now": to_text(now), "now_ms": int(now.timestamp() * 1000), "events": events,
            "refresh_s": REFRESH_S if refresh else 0, "operator": visitor.operator.name if visitor else "",
            "access": visitor.operator.access.value if visitor else "",
            "looks_only": visitor is not None and not allows(visitor.operator.access, Deed.ANSWER),
            "form_token": self._board.door.sessions.form_token(visitor.session) if visitor else "",
            "halted": (self._board.store.halted() or "") if visitor else "",
        }  # fmt: skip
        text = self._board.renderer.render(template, {**common, **scope})
        return Response(text, status, HEADERS, media_type="text/html; charset=utf-8")

    def message(self, status: int, title: str, text: str, visitor: Visitor | None = None) -> Response:
        """A page that says one thing."""
        return self.page("message", {"title": title, "text": text}, visitor, status=status)

    def unavailable(self, error: IrflowError) -> Response:
        """What is shown when the journal, or a file, does not answer. It says no more than that: the log does."""
        log.error("no page: %s", error)
        text = "The journal does not answer. Alerts and containment may go on: look at the logs, and at irflow doctor."
        try:
            return self.page("message", {"title": "Not now", "text": text}, status=503)
        except IrflowError:
            return Response(text, 503, HEADERS, media_type="text/plain; charset=utf-8")

    def routes(self) -> APIRouter:
        """The style sheet and the script. They never change under their address, so browsers may keep them."""
        router = APIRouter()

        @router.get("/static/{name}")
        async def file(name: str) -> Response:
            found = self._files.get(name)
            if found is None:
                return Response("Not Found", 404, SAFE, media_type="text/plain")
            kept = {**SAFE, "cache-control": "public, max-age=31536000, immutable"}
            return Response(found[0], 200, kept, media_type=found[1])

        return router


def go_to(path: str) -> Response:
    """Have the browser load another page of ours."""
    return RedirectResponse(path, 303, HEADERS)


def wants_events(request: Request) -> bool:
    """Whether a script asks, which can do nothing with a page."""
    return "text/event-stream" in request.headers.get("accept", "")
