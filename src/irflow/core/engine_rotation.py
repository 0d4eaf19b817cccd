"""How what Vault itself makes and ends is replaced: Vault decides what is live, a document keeps irflow's place.

What was in use before is noted first, so that after a crash it can still be proved dead. Each call can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from irflow.core.errors import CheckFailed
from irflow.core.rotation import Authority, Document, Passed, Result, Rotation, StillAccepted, today
from irflow.core.secret import SecretValue


class Engine(Protocol):
    """One thing of a Vault engine: a static role, leases, tokens, a key.

    meanwhile: what its users meet while it is replaced, in a few words. overlap: whether nobody is refused meanwhile.
    """

    overlap: bool
    meanwhile: str

    def before(self) -> SecretValue:
        """What is in use now and must be dead afterwards, in a form that only this engine reads."""
        ...

    def replace(self, before: SecretValue, document: Document) -> None:
        """Have Vault make something else live and end what was before.

        document: irflow's notes; its version grows with every decision, see core.rotation.Writer.
        """
        ...

    def works(self) -> bool:
        """Whether what is live now is accepted, asked from outside where that can be done."""
        ...

    def alive(self, before: SecretValue) -> str:
        """What of before is still accepted, for people; empty when all of it is dead."""
        ...


@dataclass
class EngineRotator:
    """core.rotations.Rotates for one of them. now: seconds that never go back; date: the time. passed: see Passed."""

    authority: Authority
    engine: Engine
    now: Callable[[], float]
    passed: Passed = lambda step, version: None
    date: Callable[[], datetime] = today

    @property
    def overlap(self) -> bool:
        """See Engine."""
        return self.engine.overlap

    @property
    def meanwhile(self) -> str:
        """See Engine."""
        return self.engine.meanwhile

    def rotate(self, run: str) -> Rotation:
        """Replace it, and prove that what was before is dead. The same run never twice.

        Raises Overtaken, StillAccepted, CheckFailed when the new one does not work, and what Vault's adapter raises:
        then the place is kept and the next call goes on from there.
        """
        document = self.authority.read()
        self.passed("read", document.version)
        mine = document.run == run
        finished = self._finish(document)
        if mine:
            return finished
        document = self.authority.read()
        before = self.engine.before()
        document = self._write(replace(document, run=run, old=before), "staged")
        return self._finish(document)

    def sweep(self) -> Rotation:
        """Finish what a crash left; without such, nothing happens. Raises as rotate."""
        return self._finish(self.authority.read())

    def verify(self) -> Rotation:
        """Prove that what is live works and that nothing is half done. Raises CheckFailed."""
        document = self.authority.read()
        if document.old:
            raise CheckFailed("a rotation is under way or was cut off", hint="Finish it: irflow secrets sweep")
        self._check()
        return Rotation(Result.UNCHANGED, document.version, document.version)

    def changed(self) -> datetime | None:
        """When it was replaced last; None where irflow never did. Raises what Vault's adapter raises."""
        return self.authority.read().since

    def _finish(self, document: Document) -> Rotation:
        if document.old is None:
            self.authority.forget(document.version)
            return Rotation(Result.UNCHANGED, document.version, document.version)
        before, started = document.version, self.now()
        self.engine.replace(document.old, document)
        self.passed("applied", document.version)
        gap_s = None if self.overlap else self.now() - started
        self._check()
        self.passed("tested", document.version)
        alive = self.engine.alive(document.old)
        if alive:
            raise StillAccepted(f"still accepted: {alive}", hint="Look at Vault, then: irflow secrets sweep")
        self.passed("refused", document.version)
        document = self._write(replace(document, old=None, since=self.date()), "cleared")
        self.authority.forget(document.version)
        self.passed("destroyed", document.version)
        return Rotation(Result.ROTATED, before, document.version, gap_s)

    def _check(self) -> None:
        if not self.engine.works():
            raise CheckFailed("what Vault says is live is refused", hint="Somebody changed it elsewhere: rotate it")

    def _write(self, document: Document, step: str) -> Document:
        written = self.authority.write(document)
        self.passed(step, written.version)
        return written
