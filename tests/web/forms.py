"""Filling in a page's form as a browser does."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from fastapi.testclient import TestClient
from httpx import Response


class _Fields(HTMLParser):
    """The fields of the form whose action is given, with what stands in them."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._action, self._inside, self._open = action, False, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "form":
            self._inside = told.get("action") == self._action
        name = told.get("name") or ""
        if not self._inside:
            return
        if tag == "input" and (told.get("type") not in ("radio", "checkbox") or "checked" in told):
            self.found.setdefault(name, []).append(told.get("value") or "")
        elif tag in ("textarea", "select"):
            self._open = name
            self.found.setdefault(name, [])
        elif tag == "option" and "selected" in told:
            self.found[self._open] = [told.get("value") or ""]

    def handle_data(self, data: str) -> None:
        if self._open and self.lasttag == "textarea":
            self.found[self._open] = [self.found[self._open][0] + data if self.found[self._open] else data.lstrip("\n")]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("textarea", "select"):
            self._open = ""
        elif tag == "form":
            self._inside = False


def fields(page: str, action: str) -> dict[str, list[str]]:
    """What a browser would send of a form if nothing was changed in it."""
    parser = _Fields(action)
    parser.feed(page)
    return parser.found


def send(client: TestClient, url: str, **filled: Any) -> Response:
    """Load the page of a form, fill it in (`field__x` for `field.x`), send it."""
    form: Mapping[str, Any] = fields(client.get(url).text, url)
    given = {name.replace("__", "."): value for name, value in filled.items()}
    reply: Response = client.post(url, data={**form, **given})
    return reply
