"""Reading a form that a page of ours has sent, within bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from fastapi import Request

from irflow.core.errors import UsageError
from irflow.web.body import read_body

MOST_BYTES = 64 << 10
MOST_FIELDS = 200


class Form:
    """What was filled in. Texts have the line ends of Unix, and no zero characters, which no journal can hold."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """A field; empty when it was left out."""
        return next(iter(self._fields.get(name, ())), "")

    def texts(self, name: str) -> list[str]:
        """A field of which several can be chosen, without empty ones."""
        return [one for one in self._fields.get(name, ()) if one.strip()]

    def names(self) -> tuple[str, ...]:
        """The fields that were sent."""
        return tuple(self._fields)


async def read_form(request: Request) -> Form:
    """The form of a request. Raises TooLarge, TooSlow; UsageError for what no page of ours sends."""
    body = await read_body(request, MOST_BYTES)
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise UsageError("this is not a form", hint="Use the page itself")
    try:
        found = parse_qs(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS, encoding="utf-8"
        )
    except ValueError:
        raise UsageError("this form cannot be read", hint="Use the page itself") from None
    return Form({name: [_clean(one) for one in values] for name, values in found.items()})


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\0", "")
