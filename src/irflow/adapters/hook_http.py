"""One call of a hook's web service: a POST signed as Standard Webhooks, bounded in time and size."""

from __future__ import annotations

import base64
import queue
import ssl
import threading
from datetime import UTC, datetime
from typing import TypeAlias

import httpx
from standardwebhooks import Webhook
from ulid import ULID

from irflow.adapters.deadline import Deadline
from irflow.config import HookSettings
from irflow.core.errors import ConfigurationError, DeadlineExceeded, HookFailed, IrflowError, ServiceMissing
from irflow.core.secret import SecretRef, SecretStore

MOST_BYTES = 1 << 16
"""Of an answer; it has a few hundred."""

_Answer: TypeAlias = "tuple[int, bytes] | IrflowError"


def post(
    settings: HookSettings, secrets: SecretStore, request: bytes, deadline: Deadline, *, label: str, where: str
) -> bytes:
    """POST the request and return the body of a 2xx answer. label, where: for errors, which never hold the key.

    Raises ConfigurationError (key, certificate), ServiceMissing (no connection, nothing was sent), HookFailed,
    DeadlineExceeded.
    """
    headers = _signed(settings.key, secrets, request, where)
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()

    def ask() -> None:
        answers.put(_exchange(settings, headers, request, deadline, label, where))

    # In a thread of its own: httpx bounds each read, not the whole, and a service may drip byte after byte.
    threading.Thread(target=ask, name="irflow hook", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.001, deadline.left()))
    except queue.Empty:
        answer = _late(label, deadline, where)
    if isinstance(answer, IrflowError):
        raise answer
    status, body = answer
    if not 200 <= status < 300:
        said = body[:300].decode("utf-8", "replace").strip() or "it said nothing"
        raise HookFailed(f"{label}: it answered {status}: {said}", where=where)
    return body


def _signed(key: str, secrets: SecretStore, request: bytes, where: str) -> dict[str, str]:
    """Headers of Standard Webhooks 1.0."""
    message_id, now = f"hook_{ULID()}", datetime.now(UTC)
    try:
        secret = base64.b64decode(secrets.resolve(SecretRef.parse(key)).reveal().strip().removeprefix(b"whsec_"))
    except ValueError:  # its text may hold the key
        secret = b""
    if not 24 <= len(secret) <= 64:  # Standard Webhooks 1.0
        raise ConfigurationError(
            f"the key of the hook ({key}) is not 24 to 64 bytes in base64", where=where,
            hint='Make one: echo "whsec_$(head -c 32 /dev/urandom | base64)"',
        )  # fmt: skip
    signature = Webhook(secret).sign(message_id, now, request.decode())
    return {
        "webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature,
        "content-type": "application/json", "accept": "application/json",
    }  # fmt: skip


def _exchange(
    settings: HookSettings, headers: dict[str, str], request: bytes, deadline: Deadline, label: str, where: str
) -> _Answer:
    """Status and body, or the error to raise. No redirects, no proxies: the request goes where the file says."""
    try:
        trust = ssl.create_default_context(cafile=None if settings.ca is None else str(settings.ca))
        with httpx.Client(verify=trust, trust_env=False, timeout=max(0.05, deadline.left())) as client:
            with client.stream("POST", settings.url, content=request, headers=headers) as reply:
                return reply.status_code, _body(reply)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return ServiceMissing(f"{label}: no connection to {settings.url}: {error}", where=where)
    except httpx.TimeoutException:
        return _late(label, deadline, where)
    except OverflowError:
        return HookFailed(f"{label}: it said more than {MOST_BYTES} bytes", where=where)
    except httpx.HTTPError as error:
        lost = f"{label}: the connection broke: {type(error).__name__}"
        return DeadlineExceeded(lost, where=where, hint="What it did is unknown; look at what is behind it")
    except OSError as error:
        return ConfigurationError(f"{label}: the certificate of its authority cannot be read: {error}", where=where)


def _body(reply: httpx.Response) -> bytes:
    body = bytearray()
    for piece in reply.iter_raw():
        body += piece
        if len(body) > MOST_BYTES:
            raise OverflowError
    return bytes(body)


def _late(label: str, deadline: Deadline, where: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"{label}: no answer within {deadline.seconds:g} s", where=where,
        hint="What it did is unknown; look at what is behind it",
    )  # fmt: skip
