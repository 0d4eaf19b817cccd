"""Rotations outside of incidents, noted in the journal of the system as far as it can be reached: Vault decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from irflow.config import Settings
from irflow.core.errors import IrflowError
from irflow.core.incident import SYSTEM
from irflow.core.ports import Store
from irflow.core.rotations import Told
from irflow.core.secret_changes import secret_change
from irflow.wiring import open_store


class SecretJournal:
    """Notes what it is told. warn: told once when the journal cannot be written; from then on nothing is noted.

    Waiting for a journal that is gone would hold up every secret, so it is not tried again.
    """

    def __init__(self, store: Store, actor: str, warn: Callable[[str], object]) -> None:
        self._store, self._actor, self._warn = store, actor, warn
        self._gone = threading.Lock()

    def told(self, name: str, transition: str, version: int) -> None:
        """See core.rotations.Told; never raises for the journal's sake."""
        draft = secret_change(name, transition, version, self._actor)
        if draft is None or self._gone.locked():
            return
        try:
            self._store.transact(lambda tx: tx.append(SYSTEM, draft))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep a secret from being replaced
            if self._gone.acquire(blocking=False):
                self._warn(_said(error))


@contextmanager
def secret_journal(settings: Settings, actor: str, warn: Callable[[str], object]) -> Iterator[Told]:
    """What notes rotations while the block runs; nothing, after a warning, where the journal cannot be opened."""
    with ExitStack() as cleanup:
        told: Told = unnoted
        try:
            told = SecretJournal(cleanup.enter_context(open_store(settings)), actor, warn).told
        except (IrflowError, OSError) as error:
            warn(_said(error))
        yield told


def unnoted(name: str, transition: str, version: int) -> None:
    """A core.rotations.Told that notes nothing."""


def _said(error: Exception) -> str:
    return f"the journal does not have all of this: {error}"
