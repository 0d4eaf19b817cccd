"""A key of a web service, replaced by the requests that secrets.yaml spells out.

Such services have no lock and know no versions, so unlike the other targets this one cannot keep out a process that
was overtaken; the document's check-and-set alone decides. Where the service makes the keys itself (`create`), a crash
between its answer and the document leaves a key behind that nobody has: look at its list of keys after a crash.
"""

from __future__ import annotations

import secrets
import ssl
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import Field, model_validator

from irflow.core.errors import OutcomeUnknown, ServiceMissing
from irflow.core.model import Json, Noun
from irflow.core.rotation import Document, Means, TargetRefused, Writer
from irflow.core.secret import SecretRef, SecretStore, SecretValue

KIND = "http_api"
_TIMEOUT_S = 10.0
_ALPHABET = string.ascii_letters + string.digits
_LARGEST = 1 << 20


class Request(Noun):
    """One request. In headers and body `{key}` is the key it is about, `{live}` the live one, `{admin}` the admin's.

    path: below the service's url, never with a key: paths land in logs. body: JSON. ok: statuses that mean done.
    gone: statuses that mean there was no such key (any more).
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: str = Field(pattern=r"^/[^{}\s]*$")
    headers: dict[str, str] = {}
    body: Json = None
    ok: tuple[int, ...] = (200, 201, 202, 204)
    gone: tuple[int, ...] = ()


class Create(Request):
    """A request whose answer has the new key. key: where in its JSON, `data.token`."""

    key: str = Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")


class Probe(Request):
    """A request that anybody with a key may make. ok: the key is accepted; refused: it is not."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    refused: tuple[int, ...] = (401,)


class Params(Noun):
    """url: of the service, HTTPS or this machine. admin_secret: reference to what may manage keys.

    put: has the service take a key that irflow made; create: has it make one. revoke: ends one. Of a service without
    `revoke` a new key ends the old one. ca: certificate of the server's authority. length: of keys irflow makes.
    """

    url: str
    admin_secret: str
    put: Request | None = None
    create: Create | None = None
    revoke: Request | None = None
    probe: Probe
    ca: Path | None = None
    length: int = Field(default=40, ge=20, le=512)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.put) == bool(self.create):
            raise ValueError("needs either put or create")
        parts = urlsplit(self.url)
        here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme != "https" and not here:
            raise ValueError("url: HTTPS, or HTTP on this machine")
        if parts.username or parts.password or parts.query:
            raise ValueError("url: no password and no query; the admin's key goes into a header")
        return self


def open_target(params: Params, means: Means) -> ApiKey:
    """The target that the parameters name. Nothing is connected yet."""
    return ApiKey(params, means.secrets, overlap=params.revoke is not None)


@dataclass(frozen=True)
class ApiKey:
    """core.rotation.Target and its Writer."""

    params: Params
    store: SecretStore
    overlap: bool
    asks: bool = True

    def new_value(self) -> SecretValue:
        """A key of letters and digits, or what the service makes. Raises TargetRefused, OutcomeUnknown."""
        create = self.params.create
        if create is None:
            return SecretValue("".join(secrets.choice(_ALPHABET) for _ in range(self.params.length)).encode())
        found: Json = self._done(create, {}).json()
        for part in create.key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, str) or not found:
            raise TargetRefused(f"the answer has no key at {create.key}", where=self._where)
        return SecretValue(found.encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held, see the head of this file."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Make the probing request with it. A status that is neither accepted nor refused decides nothing."""
        probe = self.params.probe
        answer = self._send(probe, {"key": value})
        if answer.status_code in probe.ok:
            return True
        if answer.status_code in probe.refused:
            return False
        raise OutcomeUnknown(f"the probe was answered with {answer.status_code}", where=self._where)

    def apply(self, new: SecretValue, document: Document) -> None:
        """Have the service take it; one that it made itself it has."""
        if self.params.put:
            self._done(self.params.put, {"key": new, "live": document.live})

    def revoke(self, value: SecretValue, document: Document) -> None:
        """End it; where the service cannot, the new one has ended it."""
        if self.params.revoke:
            self._done(self.params.revoke, {"key": value, "live": document.live})

    def disable(self, document: Document) -> None:
        """End the live one too. Raises TargetRefused where the service cannot."""
        if self.params.revoke is None:
            raise TargetRefused("the service can end no key", where=self._where, hint="Write `revoke`, or end it there")
        self.revoke(document.live, document)

    def enable(self, document: Document) -> None:
        """The new key works already."""

    def _done(self, request: Request, values: dict[str, SecretValue]) -> httpx.Response:
        answer = self._send(request, values)
        if answer.status_code in (*request.ok, *request.gone):
            return answer
        kind = OutcomeUnknown if answer.status_code >= 500 else TargetRefused
        raise kind(f"{request.method} {request.path} was answered with {answer.status_code}", where=self._where)

    def _send(self, request: Request, values: dict[str, SecretValue]) -> httpx.Response:
        """No redirects are followed: they would carry the key elsewhere. No message repeats a body or header."""
        known = {name: value.reveal().decode() for name, value in values.items()}
        if request is not self.params.probe:
            known["admin"] = self.store.resolve(SecretRef.parse(self.params.admin_secret)).reveal().decode()
        verify = ssl.create_default_context(cafile=str(self.params.ca)) if self.params.ca else True
        try:
            with httpx.Client(verify=verify, timeout=_TIMEOUT_S, trust_env=False) as client:
                return client.request(
                    request.method, self.params.url.rstrip("/") + request.path,
                    headers={name: str(_filled(text, known)) for name, text in request.headers.items()},
                    json=None if request.body is None else _filled(request.body, known),
                )  # fmt: skip
        except httpx.ConnectError as error:
            raise ServiceMissing(f"no connection: {type(error).__name__}", where=self._where) from None
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"the answer did not come: {type(error).__name__}", where=self._where) from None

    @property
    def _where(self) -> str:
        return self.params.url


def _filled(value: Json, known: dict[str, str]) -> Json:
    """Texts with `{name}` replaced, at any depth; nothing else in braces is touched."""
    if isinstance(value, dict):
        return {name: _filled(one, known) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, known) for one in value]
    if isinstance(value, str):
        pieces, rest = "", value
        while rest:  # from left to right, once: what is filled in is data
            at, name = min(
                ((rest.find("{" + one + "}"), one) for one in known if "{" + one + "}" in rest), default=(-1, "")
            )
            if at < 0:
                break
            pieces, rest = pieces + rest[:at] + known[name], rest[at + len(name) + 2 :]
        return pieces + rest
    return value
