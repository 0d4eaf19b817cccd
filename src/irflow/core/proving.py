"""Proving who somebody is by a one-time code: the key is fetched, then one transaction decides and records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from irflow.core.approvals import Operator
from irflow.core.errors import Refused
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json, to_text
from irflow.core.one_time import (
    LOCKED,
    MOST_FAILURES,
    NOBODY,
    OneTimeCodes,
    Standing,
    Standings,
    Verdict,
    around,
    fold,
    judge,
)
from irflow.core.ports import Clock, Store, Transaction
from irflow.core.secret import SecretRef, SecretStore, SecretValue

METHOD = "totp"
"""What approvals name as their method when the person gave a one-time code."""
ACTOR = "irflow:identity"
"""Who refuses: nobody is proved then."""
TOLD_BY = ("email", "dashboard")
"""Channels that tell of a lock-out: those of a high severity."""


@dataclass(frozen=True)
class _Attempt:
    """A code that somebody gave. name: the operator's, NOBODY where there is none."""

    name: str
    matching: tuple[int, ...]
    now: datetime
    for_: str


class CodeIdentities:
    """core.identity.Identities over the journal of `system`.

    All writers of a journal take turns, in whatever process or machine they are; a transaction sees all that was
    committed before it. So of several that give the same code at once, exactly one is proved.
    """

    def __init__(
        self, operators: Iterable[Operator], secrets: SecretStore, store: Store, codes: OneTimeCodes, clock: Clock
    ) -> None:
        self._holders = {one.name: one for one in operators if one.totp}
        self._secrets, self._store, self._codes, self._clock = secrets, store, codes, clock
        self._known = Standings()
        self._nobodys: SecretValue | None = None

    def prove(self, name: str, code: str, *, for_: str = "") -> Operator:
        """See core.identity.Identities. What is wrong is never said more exactly than that the code is not good."""
        operator = self._holders.get(name)
        attempt = _Attempt(operator.name if operator else NOBODY, *self._compared(operator, code), for_[:200])
        verdict = self._judged(attempt)
        if operator is not None and verdict is Verdict.GOOD:
            return operator
        if verdict is Verdict.USED:
            raise Refused(f"this code of {name[:100]} was used already", hint="Wait for the next one, at most 30 s")
        minutes = int(LOCKED.total_seconds() // 60)
        raise Refused(
            f"this is no good code of {name[:100]}",
            hint=f"After {MOST_FAILURES} wrong ones in a row none is taken for {minutes} min; "
            "irflow operators list says who has a key for codes, and who is locked out",
        )

    def _compared(self, operator: Operator | None, code: str) -> tuple[tuple[int, ...], datetime]:
        """The time steps that a code fits, and when it was looked at.

        For a name that nobody has, somebody else's key is fetched and compared, so that it takes as long.
        """
        asked = operator or next(iter(self._holders.values()), None)
        if asked is not None:
            key = self._secrets.resolve(SecretRef.parse(asked.totp))
        else:
            key = self._nobodys = self._nobodys or self._codes.new_key()
        now = self._clock.now()  # not before: fetching may have taken seconds
        matching = self._codes.matching(key, code, around(now))
        return (matching if operator else ()), now

    def _judged(self, attempt: _Attempt) -> Verdict:
        """Most of the journal is read before the transaction, whose lock all writers wait for."""
        known = fold(self._known, self._store.events(SYSTEM, after=self._known.seq))
        self._known = known  # of several threads any may be the last: each is true
        return self._store.transact(
            lambda tx: _decide(tx, attempt, fold(known, tx.events(SYSTEM, after=known.seq)).of(attempt.name))
        )


def _decide(tx: Transaction, attempt: _Attempt, standing: Standing) -> Verdict:
    """Judge, and record the verdict. While a name is locked nothing more is written."""
    verdict, step = judge(standing, attempt.matching, attempt.now)
    data: dict[str, Json] = {"operator": attempt.name, **({"for": attempt.for_} if attempt.for_ else {})}
    if verdict is Verdict.GOOD:
        data |= {"counter": step, "method": METHOD}
        tx.append(SYSTEM, Draft(Kind.OPERATOR_PROVED, f"operator:{attempt.name}", data))
    elif verdict is not Verdict.LOCKED:
        data |= {"reason": verdict.value if attempt.name else "unknown"}
        refused = tx.append(SYSTEM, Draft(Kind.OPERATOR_REFUSED, ACTOR, data))
        after = fold(Standings(0, {attempt.name: standing}), refused).of(attempt.name)
        if after.locked_until is not None and after.locked_until != standing.locked_until:
            _tell(tx, attempt.name, after.locked_until)
    return verdict


def _tell(tx: Transaction, name: str, until: datetime) -> None:
    who = name or "names that no operator has"
    title = f"{MOST_FAILURES} wrong one-time codes in a row for {who}"
    body = f"{title}. None is taken until {to_text(until)[:19]}Z. If nobody typed them wrongly, somebody is guessing."
    tx.enqueue("notify", {"channels": list(TOLD_BY), "title": title, "body": body})
