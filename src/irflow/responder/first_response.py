"""First response: containment steps that need no person run here, now, in a warm process."""

from __future__ import annotations

import logging
import threading

from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core.engine import Engine
from irflow.core.errors import IrflowError
from irflow.core.phase import PhaseResult, execute
from irflow.core.playbook import Phase

PLANNING_S = 0.25
"""Before the first host is worked on, there is a plan to make."""
MOST_PATIENCE_S = 5.0

log = logging.getLogger(__name__)


class FirstResponse:
    """Runs containment in this process, once per incident at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._executor = ThreadExecutor()
        self._lock = threading.Lock()
        self._active: dict[str, bool] = {}
        self._began = float("-inf")

    def start(self, incident: str) -> bool:
        """Reserve an incident. False when it is being worked on; it is then gone through once more afterwards."""
        with self._lock:
            if incident in self._active:
                self._active[incident] = True
                return False
            self._active[incident] = False
            self._began = self._engine.ports.clock.monotonic()
            return True

    def run(self, incident: str) -> PhaseResult | None:
        """Run containment as far as it goes without a person. None when it cannot be planned (journalled)."""
        result: PhaseResult | None = None
        while True:
            try:
                result = execute(
                    self._engine, incident, Phase.CONTAINMENT, self._executor, run_id=str(ULID()), kind="threads"
                )
            except IrflowError as error:
                log.error("first response to %s: %s", incident, error)
            with self._lock:
                if not self._active.get(incident):
                    self._active.pop(incident, None)
                    return result
                self._active[incident] = False

    def active(self, incident: str) -> bool:
        """Whether this process is working on the incident."""
        with self._lock:
            return incident in self._active

    def cutting(self) -> bool:
        """Whether hosts are being cut off right now: until then, and for at most MOST_PATIENCE_S, flow runs wait.

        Prefect would otherwise take the processor away from what counts; it delays nothing, least of all this.
        """
        with self._lock:
            age = self._engine.ports.clock.monotonic() - self._began
            young = bool(self._active) and age < MOST_PATIENCE_S
        return young and (age < PLANNING_S or self._engine.slots.cutting)

    def close(self) -> None:
        """Wait for what runs."""
        self._executor.close()
