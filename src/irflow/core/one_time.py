"""One-time codes: which are good now, which were used, who is locked out. A fold over the journal of `system`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from irflow.core.journal import Event, Kind
from irflow.core.secret import SecretValue

STEP_S = 30
"""Seconds that a code is shown (RFC 6238, 4.1: X); all authenticator apps take it for granted, like the 6 digits."""
SKEW = 1
"""Time steps that the phone's clock may be off, or the typing may take, either way (RFC 6238, 5.2)."""
MOST_FAILURES = 5
"""Wrong codes in a row that lock an operator out: enough for typing errors, and see LOCKED."""
LOCKED = timedelta(minutes=15)
"""How long. 3 of a million codes are good at any moment, so 5 guesses in 15 minutes, all day long, succeed on one day
in 700; and people are told at the first five. Longer would let whoever guesses keep a person out of an incident."""
NOBODY = ""
"""Under this name failures of names that no operator has are counted together: the names are a stranger's text."""


class Verdict(StrEnum):
    """What became of a code."""

    GOOD = "good"
    WRONG = "wrong"
    USED = "used"
    LOCKED = "locked"


class OneTimeCodes(Protocol):
    """Computes codes (RFC 6238: SHA-1, 6 digits)."""

    def matching(self, key: SecretValue, code: str, steps: Iterable[int]) -> tuple[int, ...]:
        """Those of the time steps whose code this is. Takes as long whatever the code is.

        Raises ConfigurationError when the key is no key.
        """
        ...

    def new_key(self) -> SecretValue:
        """A random key of 160 bits, as long as SHA-1's output (RFC 4226, 4: R6), in base32."""
        ...

    def uri(self, key: SecretValue, name: str) -> str:
        """What the QR code says: `otpauth://totp/...`. It holds the key."""
        ...


@dataclass(frozen=True)
class Standing:
    """What the journal says of one name. used: the latest time step that was accepted. failures: in a row, so far.

    locked_until: end of the last lock-out, also when it is over.
    """

    used: int = -1
    failures: int = 0
    locked_until: datetime | None = None

    def locked(self, now: datetime) -> bool:
        """Whether nobody can be proved under this name now."""
        return self.locked_until is not None and now < self.locked_until


@dataclass(frozen=True)
class Standings:
    """What the journal says up to an event. seq: of that event."""

    seq: int = 0
    by_name: Mapping[str, Standing] = field(default_factory=dict)

    def of(self, name: str) -> Standing:
        """The standing of a name."""
        return self.by_name.get(name, Standing())


def fold(known: Standings, events: Iterable[Event]) -> Standings:
    """What is known after more events of the journal of `system`."""
    seq, by_name = known.seq, dict(known.by_name)
    for event in events:
        seq = event.seq
        if event.kind in (Kind.OPERATOR_PROVED, Kind.OPERATOR_REFUSED):
            name = str(event.data["operator"])
            by_name[name] = _after(by_name.get(name, Standing()), event)
    return Standings(seq, by_name)


def _after(before: Standing, event: Event) -> Standing:
    if event.kind == Kind.OPERATOR_PROVED:
        return replace(before, used=max(before.used, int(event.data["counter"])), failures=0)
    # Whoever sends a used code once more has guessed nothing: people do it by accident.
    if event.data["reason"] == Verdict.USED:
        return before
    if before.failures + 1 < MOST_FAILURES:
        return replace(before, failures=before.failures + 1)
    return replace(before, failures=0, locked_until=event.moment + LOCKED)


def around(now: datetime) -> tuple[int, ...]:
    """The time steps whose codes are good now, oldest first."""
    middle = int(now.timestamp()) // STEP_S
    return tuple(range(middle - SKEW, middle + SKEW + 1))


def judge(standing: Standing, matching: Iterable[int], now: datetime) -> tuple[Verdict, int]:
    """The verdict on a code, and the time step that it uses up (-1 for none). matching: the steps whose code it is."""
    if standing.locked(now):
        return Verdict.LOCKED, -1
    found = tuple(matching)
    fresh = [step for step in found if step > standing.used]
    if fresh:
        return Verdict.GOOD, min(fresh)
    return (Verdict.USED if found else Verdict.WRONG), -1
