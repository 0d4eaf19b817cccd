"""Reading a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from irflow.core.errors import IrflowError

SECONDS = 15.0
"""How long a sender may take for its body; a slow one must not hold a place for ever."""


class TooLarge(IrflowError):
    """The body is longer than the source may send; what is over the limit was not kept."""


class TooSlow(IrflowError):
    """The body did not come in time, or the sender went away."""


async def read_body(request: Request, limit: int, *, seconds: float = SECONDS) -> bytes:
    """The whole body. limit: bytes. Raises TooLarge, before reading anything where the length is announced; TooSlow."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 12 or int(announced) > limit):
        raise TooLarge(f"more than {limit} bytes")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise TooLarge(f"more than {limit} bytes")
                parts.append(part)
    except (TimeoutError, ClientDisconnect) as error:
        raise TooSlow(f"the body did not come within {seconds} s") from error
    return b"".join(parts)
