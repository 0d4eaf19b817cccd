"""The sweep at the start: rotations that a crash left half done are finished, beside everything else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from irflow.core.errors import IrflowError
from irflow.core.rotation import Result
from irflow.core.rotations import Done, Rotations, Told

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
END_S = 10.0
"""A rotation that is being finished may take so long when the responder ends; then the next start goes on."""


class SecretSweep:
    """Finishes what was left half done, each secret until it was looked at once; begins no rotation.

    rotations: None where irflow looks after no secrets; then there is no thread. halted: why all automation stands
    still, None while it does not. noted: told each transition. A context: the thread runs while it is open.
    """

    def __init__(
        self,
        rotations: Rotations | None,
        halted: Callable[[], str | None],
        noted: Told,
        *,
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._rotations, self._halted, self._noted, self._pause_s = rotations, halted, noted, first_pause_s
        self._told: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def __enter__(self) -> Self:
        if self._rotations is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def _run(self) -> None:
        left = set(self._rotations.inventory.secrets) if self._rotations else set()
        pause = self._pause_s
        while left and not self._stop.is_set():
            try:
                left = self._once(left)
            except IrflowError as error:  # the journal does not answer
                log.error("no sweep: %s", error)
            except Exception:  # a thread's last line
                log.exception("no sweep")
            self._stop.wait(pause if left else 0)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _once(self, names: set[str]) -> set[str]:
        """Sweep these. Returns those that are still to be looked at."""
        if self._rotations is None or self._halted() is not None:
            return names
        ended = self._rotations.sweep(sorted(names), self._noted)
        for one in ended:
            self._tell(one)
        return {one.name for one in ended if one.error is not None}

    def _tell(self, one: Done) -> None:
        """What was finished, and what could not be, once for each reason."""
        if one.error is not None:
            if self._told.get(one.name) != str(one.error):
                log.warning("%s: not swept: %s", one.name, one.error)
            self._told[one.name] = str(one.error)
        elif one.rotation is not None and one.rotation.result is not Result.UNCHANGED:
            log.info("%s: a rotation that was cut off is finished: %s", one.name, one.result)
