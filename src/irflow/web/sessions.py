"""Sessions of the page: a signed cookie says who it is and since when; nothing of it has to be kept by the server.

But what was logged out, for a copy of its cookie would be good for hours more.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from irflow.core.ports import Clock

SESSION_S = 12 * 3600
"""How long a session lasts from its login, whatever is done in it: a shift."""
_LONGEST = 2000
"""Characters of a cookie that are looked at."""


@dataclass(frozen=True)
class Session:
    """Somebody who has logged in. mark: of the token they came by, which must still be theirs."""

    id: str
    operator: str
    mark: str


class Ended:
    """The sessions that were logged out before their time. path: where they are kept, so that a restart knows them."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError):
            self._until = {str(key): float(value) for key, value in json.loads(path.read_text()).items()}

    def add(self, session: str) -> None:
        """Note one; those whose time is over anyhow are forgotten."""
        now = self._clock.now().timestamp()
        with self._lock:
            self._until = {one: until for one, until in self._until.items() if until > now}
            self._until[session] = now + SESSION_S
            beside = self._path.with_name(f".{self._path.name}.new")
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
                json.dump(self._until, file)
            beside.replace(self._path)

    def __contains__(self, session: str) -> bool:
        return session in self._until


class Sessions:
    """key: of this installation, for signing. ended: what was logged out."""

    def __init__(self, key: bytes, ended: Ended, clock: Clock) -> None:
        self._key, self._ended = key, ended

        class Signer(TimestampSigner):
            """Takes the time from our clock."""

            def get_timestamp(self) -> int:
                return int(clock.now().timestamp())

        self._signer = URLSafeTimedSerializer(
            key, salt="irflow.session", signer=Signer,
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )  # fmt: skip

    def begin(self, operator: str, mark: str) -> str:
        """A new session, as the text of its cookie."""
        text = self._signer.dumps({"id": secrets.token_urlsafe(18), "operator": operator, "mark": mark})
        return text if isinstance(text, str) else text.decode()

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None when it is forged, changed, over or ended."""
        if not 0 < len(cookie) <= _LONGEST:
            return None
        try:
            data: Any = self._signer.loads(cookie, max_age=SESSION_S)
            session = Session(str(data["id"]), str(data["operator"]), str(data["mark"]))
        except (BadData, KeyError, TypeError):
            return None
        return None if session.id in self._ended else session

    def end(self, session: Session) -> None:
        """Log out: no copy of its cookie is good any more."""
        self._ended.add(session.id)

    def form_token(self, session: Session) -> str:
        """What every form of this session carries, and no other site can know."""
        return hmac.new(self._key, f"form {session.id}".encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, session: Session, given: str) -> bool:
        """Whether a form is of this session."""
        return hmac.compare_digest(self.form_token(session).encode(), given.encode())
