"""operators.yaml as it is now: read again once it has changed, so that a removed name is gone at once."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from irflow.adapters.catalog.named import load_operators
from irflow.core.approvals import Operator
from irflow.core.errors import IrflowError

log = logging.getLogger(__name__)

_Seen = tuple[int, int, int]


class WatchedOperators:
    """Call it for the operators. first: as they were read at the start. Safe between threads.

    While the file is being edited and does not hold together, the last state that did counts: a slip of the pen must
    not keep everybody out during an incident. A file that is gone names nobody.
    """

    def __init__(self, path: Path, first: tuple[Operator, ...]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._operators = first
        self._seen: _Seen | None = None

    def __call__(self) -> tuple[Operator, ...]:
        """The operators now."""
        with self._lock:
            seen = self._look()
            if seen is None:
                self._operators = ()
            elif seen != self._seen:
                try:
                    self._operators = load_operators(self._path)
                except IrflowError as error:
                    log.error("operators.yaml was changed and is not valid, the operators before count: %s", error)
            self._seen = seen
            return self._operators

    def _look(self) -> _Seen | None:
        try:
            about = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("operators.yaml cannot be looked at, the operators before count: %s", error.strerror)
            return self._seen or (0, 0, 0)
        return about.st_ino, about.st_mtime_ns, about.st_size
