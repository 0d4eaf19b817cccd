"""A key of a web service, replaced by the requests that secrets.yaml spells out.

Such services have no lock and know no versions, so unlike the other targets this one cannot keep out a process that
was overtaken; the document's check-and-set alone decides. A key that irflow makes (`put`) is in the document before the
service sees it. Where the service makes the keys itself (`create`), a crash between its answer and the document leaves
a key behind that nobody has: `list` finds it when the next rotation ends, without it somebody has to look.
"""

from __future__ import annotations

import json
import secrets
import ssl
import string
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import Field, model_validator

from irflow.core.errors import ConfigurationError, OutcomeUnknown, ServiceMissing
from irflow.core.model import Json, Noun
from irflow.core.reference import Reference
from irflow.core.rotation import Document, TargetRefused, Writer
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretRef, SecretStore, SecretValue

KIND = "http_api"
_TIMEOUT_S = 10.0
_ALPHABET = string.ascii_letters + string.digits
_PLACE = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
_LATER = (408, 425, 429)  # statuses that ask to come back later, as all of 500 and more do


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


class Revoke(Request):
    """A request that ends a key. A repeated one finds none, and the probe shows whether that is so."""

    gone: tuple[int, ...] = (404, 410)


class List(Request):
    """A request whose answer names keys. items: where in its JSON the list is; key: where the key is in each of them.

    match: what else an item says when the key is of this secret, as `create` asked for it. Others are left alone.
    """

    method: Literal["GET", "POST"] = "GET"
    items: str = Field(pattern=_PLACE)
    key: str = Field(pattern=_PLACE)
    match: dict[str, Json] = Field(min_length=1)


class Create(Request):
    """A request whose answer has the new key. key: where in its JSON, `data.token`."""

    key: str = Field(pattern=_PLACE)


class Probe(Request):
    """A request that anybody with a key may make. ok: the key is accepted; refused: it is not."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    refused: tuple[int, ...] = (401,)


class Params(Noun):
    """url: of the service, HTTPS or this machine. admin_secret: reference to what may manage keys.

    put: has the service take a key that irflow made; create: has it make one; list: finds those that a crash left.
    revoke: ends one. Of a service without `revoke` a new key ends the old one. ca: certificate of the server's
    authority. length: of keys irflow makes.
    """

    url: str
    admin_secret: Reference
    put: Request | None = None
    create: Create | None = None
    list: List | None = None
    revoke: Revoke | None = None
    probe: Probe
    ca: Path | None = None
    length: int = Field(default=40, ge=20, le=512)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.put) == bool(self.create):
            raise ValueError("needs either put or create")
        if self.list and not (self.create and self.revoke):
            raise ValueError("list: goes with create and revoke")
        for name in ("put", "revoke", "probe"):
            one = getattr(self, name)
            if one and not _mentions(one, "key"):
                raise ValueError(f"{name}: says {{key}} nowhere in its headers or body")
        if _mentions(self.probe, "admin") or _mentions(self.probe, "live"):
            raise ValueError("probe: is made with {key} alone")
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
        found = _at(_said(self._done(create, {})), create.key)
        if not isinstance(found, str) or not found:
            raise TargetRefused(f"the answer has no key at {create.key}", where=self._where)
        return SecretValue(found.encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held, see the head of this file."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Make the probing request with it. A status that is neither accepted nor refused decides nothing.

        Nor does a probe that a key which nobody knows passes as well.
        """
        probe = self.params.probe
        answer = self._send(probe, {"key": value})
        if answer.status_code in probe.ok:
            unknown = SecretValue(secrets.token_hex(20).encode())
            if self._send(probe, {"key": unknown}).status_code in probe.ok:
                raise OutcomeUnknown(
                    f"{probe.path} lets anybody in", where=self._where, hint="Probe what asks for a key"
                )
            return True
        if answer.status_code in probe.refused:
            return False
        raise OutcomeUnknown(f"the probe was answered with {answer.status_code}", where=self._where)

    def apply(self, new: SecretValue, document: Document) -> None:
        """Have the service take it; one that it made itself it has."""
        if self.params.put:
            self._done(self.params.put, {"key": new, "live": document.live})

    def revoke(self, value: SecretValue, document: Document) -> None:
        """End it, and what a crash left; where the service cannot, the new one has ended it."""
        if self.params.revoke is None:
            return
        for one in (value, *self._left(document)):
            self._done(self.params.revoke, {"key": one, "live": document.live})

    def _left(self, document: Document) -> Iterator[SecretValue]:
        """Keys of this secret that the document does not have. Raises TargetRefused for an answer that has no list."""
        asked = self.params.list
        if asked is None:
            return
        items = _at(_said(self._done(asked, {"live": document.live})), asked.items)
        if not isinstance(items, list):
            raise TargetRefused(f"the answer has no list at {asked.items}", where=self._where)
        known = {document.live.reveal(), *([document.staged.new.reveal()] if document.staged else [])}
        for one in items:
            key = _at(one, asked.key)
            if isinstance(key, str) and key.encode() not in known and asked.match.items() <= _fields(one).items():
                yield SecretValue(key.encode())

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
        kind = OutcomeUnknown if answer.status_code >= 500 or answer.status_code in _LATER else TargetRefused
        raise kind(f"{request.method} {request.path} was answered with {answer.status_code}", where=self._where)

    def _send(self, request: Request, values: dict[str, SecretValue]) -> httpx.Response:
        """No redirects are followed: they would carry the key elsewhere. No message repeats a body or header."""
        known = {name: self._text(value, name) for name, value in values.items()}
        if request is not self.params.probe:
            known["admin"] = self._text(self.store.resolve(SecretRef.parse(self.params.admin_secret)), "admin")
        verify = self._trusted()
        try:
            with httpx.Client(verify=verify, timeout=_TIMEOUT_S, trust_env=False) as client:
                return client.request(
                    request.method, self.params.url.rstrip("/") + request.path,
                    headers={name: str(_filled(text, known)) for name, text in request.headers.items()},
                    json=None if request.body is None else _filled(request.body, known),
                )  # fmt: skip
        except httpx.ConnectError as error:
            raise ServiceMissing(f"no connection: {error}", where=self._where) from None
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"the answer did not come: {type(error).__name__}", where=self._where) from None

    def _text(self, value: SecretValue, name: str) -> str:
        """As headers take it. Raises ConfigurationError, which does not repeat it; what Python raises would."""
        if any(not 0x21 <= byte <= 0x7E for byte in value.reveal()):
            raise ConfigurationError(
                f"{{{name}}} has a character that no header takes", where=self._where, hint="Is there a line break?"
            )
        return value.reveal().decode()

    def _trusted(self) -> ssl.SSLContext | bool:
        try:
            return ssl.create_default_context(cafile=str(self.params.ca)) if self.params.ca else True
        except OSError as error:  # also what ssl raises
            raise ConfigurationError(f"ca: {self.params.ca}: {error.strerror or error}", where=self._where) from None

    @property
    def _where(self) -> str:
        return self.params.url


def _said(answer: httpx.Response) -> Json:
    """Its JSON, None for anything else: an error of the parser would carry the text, and there may be a key in it."""
    with suppress(ValueError):
        return answer.json()
    return None


def _at(found: Json, place: str) -> Json:
    """What stands at `data.token`, None for nothing."""
    for part in place.split("."):
        found = _fields(found).get(part)
    return found


def _fields(found: Json) -> dict[str, Json]:
    return found if isinstance(found, dict) else {}


def _mentions(request: Request, name: str) -> bool:
    return f"{{{name}}}" in json.dumps([request.headers, request.body])


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
