"""Messages to people through apprise: e-mail, SMS, chat; one URL per receiver, each of them a secret."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from irflow.config import BUILT_IN
from irflow.core.errors import ConfigurationError, IrflowError
from irflow.core.journal import digest
from irflow.core.model import Json
from irflow.core.secret import SecretRef, SecretStore

log = logging.getLogger(__name__)

MOST_TITLE = 200
MOST_BODY = 20_000
MOST_REMEMBERED = 1000

Receiver = tuple[str, int]
"""A channel's name and the place of one of its URLs."""


@dataclass
class _Sending:
    """One message on its way. out: who has it; shared by all tries. errors: why others have not."""

    title: str
    body: str
    out: set[Receiver]
    errors: dict[Receiver, str] = field(default_factory=dict)


class AppriseChannel:
    """core.ports.Channel. channels: name -> references to apprise URLs, or `log`, `dashboard`.

    timeout_s: wall clock for one message by all its channels. Who got a message is remembered until everybody has it,
    so trying again sends nothing twice.
    """

    def __init__(self, channels: Mapping[str, Sequence[str]], secrets: SecretStore, *, timeout_s: float = 10.0) -> None:
        self._channels = {name: tuple(references) for name, references in channels.items()}
        self._secrets = secrets
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._out: dict[str, set[Receiver]] = {}
        self._threads: dict[Receiver, threading.Thread] = {}

    def send(self, payload: dict[str, Json]) -> None:
        """Send one message by all its channels at the same time.

        payload: channels, title, body, incident. Raises ConfigurationError for a channel that is not set up and
        IrflowError when a message did not get out; both name channels and references, never a URL.
        Every channel that works has sent it all the same.
        """
        wanted = [str(channel) for channel in payload.get("channels", ())]
        title, body = one_line(str(payload.get("title", "")))[:MOST_TITLE], str(payload.get("body", ""))[:MOST_BODY]
        if any("log" in self._of(name) for name in wanted):
            log.warning("%s %s: %s", payload.get("incident") or "", title, one_line(body))
        receivers = [
            (name, place) for name in wanted for place, ref in enumerate(self._of(name)) if ref not in BUILT_IN
        ]
        failed = self._all(digest(payload), receivers, title, body)
        if failed:
            reasons = "; ".join(f"{channel} ({why})" for channel, why in sorted(failed.items()))
            raise IrflowError(f"a message did not get out by {reasons}", hint="Look at the service behind the channel")
        missing = [name for name in wanted if not self._of(name)]
        if missing:
            raise ConfigurationError(
                f"no channel {', '.join(missing)} is set up", hint="Name its URLs under notify.channels in irflow.yaml"
            )

    def _of(self, channel: str) -> tuple[str, ...]:
        """The receivers of a channel; a built-in one is its own, unless it is set to something else."""
        return self._channels.get(channel) or ((channel,) if channel in BUILT_IN else ())

    def _all(self, key: str, receivers: Sequence[Receiver], title: str, body: str) -> dict[str, str]:
        """Send to each receiver in a thread of its own; returns channel -> why it failed."""
        with self._lock:
            while len(self._out) >= MOST_REMEMBERED:
                del self._out[next(iter(self._out))]
            sending = _Sending(title, body, self._out.setdefault(key, set()))
            started = {one: self._start(one, sending) for one in receivers if one not in sending.out}
        deadline = time.monotonic() + self._timeout_s
        for one, thread in started.items():
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
            if thread is not None and thread.is_alive():
                sending.errors[one] = f"no answer within {self._timeout_s:g} s"
        if not sending.errors:
            with self._lock:
                self._out.pop(key, None)
        return {channel: why for (channel, _), why in list(sending.errors.items())}

    def _start(self, one: Receiver, sending: _Sending) -> threading.Thread | None:
        """A daemon thread, because a service that never answers must not keep the process from ending either."""
        before = self._threads.get(one)
        if before is not None and before.is_alive():
            sending.errors[one] = "an earlier message still hangs"
            return None
        thread = threading.Thread(target=self._one, args=(one, sending), name=f"notify-{one[0]}", daemon=True)
        self._threads[one] = thread
        thread.start()
        return thread

    def _one(self, one: Receiver, sending: _Sending) -> None:
        channel, place = one
        reference = self._of(channel)[place]
        try:
            url = self._secrets.resolve(SecretRef.parse(reference)).reveal().decode().strip()
            if _deliver(url, sending.title, sending.body, self._timeout_s):
                sending.out.add(one)
            else:
                sending.errors[one] = f"{reference}: the service did not take it"
        except IrflowError as error:
            sending.errors[one] = str(error)
        except Exception as error:  # noqa: BLE001  apprise's plugins raise anything, and its text may hold the URL
            sending.errors[one] = f"{reference}: {type(error).__name__}"


def one_line(text: str) -> str:
    """The text without line breaks and other controls, so that a title cannot become a mail header."""
    return re.sub(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def _deliver(url: str, title: str, body: str, timeout_s: float) -> bool:
    """Send by one URL. Raises IrflowError when it is none that apprise knows."""
    import apprise  # late: it takes 0.15 s, and most processes send nothing

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # what it logs may hold receivers and hosts
    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if service is None:
        raise IrflowError("the secret is not an apprise URL", hint="See https://github.com/caronc/apprise/wiki")
    service.socket_connect_timeout = service.socket_read_timeout = timeout_s
    one = apprise.Apprise()
    one.add(service)
    # Through Apprise and not the service itself: only that escapes plain text for services that send HTML.
    return bool(one.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))
