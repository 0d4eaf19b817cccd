"""Who comes in: from a token to a session, and from a request to the operator behind it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from irflow.core.approvals import Operator
from irflow.core.ports import Clock
from irflow.web.limit import Bucket
from irflow.web.sessions import SESSION_S, Session, Sessions

log = logging.getLogger(__name__)

TRIES_PER_MINUTE = 10
"""Logins from one address: more than fingers need, and of 256-bit tokens nobody guesses one anyhow."""
ALL_PER_MINUTE = 120
"""Logins in all, so that many addresses cannot keep the process busy."""
ADDRESSES = 1024
"""Of which the tries are counted; the one that was seen longest ago makes room."""


class Tokens(Protocol):
    """Operators' tokens, as adapters.operator_tokens keeps them."""

    def owner(self, token: str) -> str | None:
        """Whose token it is, None when nobody's."""
        ...

    def mark(self, name: str) -> str | None:
        """What tells an operator's token from the one before it; None while there is none."""
        ...


@dataclass(frozen=True)
class Visitor:
    """Somebody who has logged in, as operators.yaml knows them now."""

    operator: Operator
    session: Session


class Door:
    """operators: those of now, asked at every request. Its methods may read files: call them off the event loop."""

    def __init__(
        self, sessions: Sessions, tokens: Tokens, operators: Callable[[], tuple[Operator, ...]], clock: Clock
    ) -> None:
        self.sessions, self.operators = sessions, operators
        self._tokens, self._clock = tokens, clock
        self._all = Bucket(ALL_PER_MINUTE, clock)
        self._by_address: OrderedDict[str, Bucket] = OrderedDict()

    def pause(self, request: Request) -> int:
        """Count a try to log in. Returns 0, or after how many seconds another is heard. Of the event loop alone."""
        address = _network(request)
        bucket = self._by_address.pop(address, None) or Bucket(TRIES_PER_MINUTE, self._clock)
        self._by_address[address] = bucket
        while len(self._by_address) > ADDRESSES:
            self._by_address.popitem(last=False)
        return bucket.take() or self._all.take()  # who is over their own share uses up nothing of the others'

    def was_no_guess(self, request: Request) -> None:
        """A login with a right token counts for nothing: a whole team may sit behind one address. Of the event loop."""
        self._all.give_back()
        bucket = self._by_address.get(_network(request))
        if bucket is not None:
            bucket.give_back()

    def enter(self, token: str) -> tuple[Operator, str] | None:
        """(operator, cookie) for a token; None when it is nobody's. Raises ConfigurationError."""
        name = self._tokens.owner(token)
        mark = self._tokens.mark(name) if name else None
        operator = next((one for one in self.operators() if one.name == name), None)
        if operator is None or mark is None:
            return None
        return operator, self.sessions.begin(operator.name, mark)

    def visitor(self, request: Request) -> Visitor | None:
        """Who sent a request: a session that is not over, of a name and by a token that still count."""
        session = self.sessions.read(request.cookies.get(cookie_name(request), ""))
        if session is None or self._tokens.mark(session.operator) != session.mark:
            return None
        operator = next((one for one in self.operators() if one.name == session.operator), None)
        return Visitor(operator, session) if operator else None


def cookie_name(request: Request) -> str:
    """Browsers keep cookies by host and not by port, so each port of a machine needs its own name.

    Over TLS the prefix has the browser see to it that no other host and no unsafe connection set it (RFC 6265bis).
    """
    name = f"irflow-{request.url.port or 'page'}"
    return f"__Host-{name}" if request.url.scheme == "https" else name


def keep_cookie(request: Request, reply: Response, text: str) -> None:
    """Have the browser keep a session."""
    reply.set_cookie(
        cookie_name(request), text, max_age=SESSION_S, path="/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip


def drop_cookie(request: Request, reply: Response) -> None:
    """Have the browser forget it."""
    reply.delete_cookie(
        cookie_name(request), path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )


def _network(request: Request) -> str:
    """What one sender can choose its address from: one of IPv4, a /64 of IPv6."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))
