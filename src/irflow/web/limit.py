"""How many requests a source may make: a bucket that fills evenly and holds one minute's worth."""

from __future__ import annotations

import math

from irflow.core.ports import Clock


class Bucket:
    """For one source, used by one thread. per_minute: requests."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._clock = clock
        self._most = float(per_minute)
        self._level = self._most
        self._at = clock.monotonic()

    def take(self) -> int:
        """Take one request out. Returns 0, or after how many whole seconds the next one is there."""
        now = self._clock.monotonic()
        self._level = min(self._most, self._level + (now - self._at) * self._most / 60)
        self._at = now
        if self._level >= 1:
            self._level -= 1
            return 0
        return max(1, math.ceil((1 - self._level) * 60 / self._most))

    def give_back(self) -> None:
        """Put a request back that turned out not to count."""
        self._level = min(self._most, self._level + 1)
