"""Those who need a secret while it is replaced: each reads it where it lives and logs in with it, again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from irflow.drill.scorecard import CheckScore

_PAUSE_S = 0.02


class Consumer:
    """One of them, from entering to leaving.

    name: of the secret. read: the value as its document says now. log_in: whether a value gets in.
    """

    def __init__(self, name: str, read: Callable[[], str], log_in: Callable[[str], bool]) -> None:
        self.name = name
        self._read, self._log_in = read, log_in
        self._refused: list[tuple[float, float]] = []
        self._tries = 0
        self._values: set[str] = set()
        self._error: Exception | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"consumer-{name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Log in no more; twice is fine."""
        self._over.set()
        self._thread.join()

    def score(self, gap_s: float | None) -> CheckScore:
        """Whether nobody was refused with what the document said, but within the gap that was printed.

        gap_s: None where both values work for a while, so that there is none.
        """
        span = self._refused[-1][0] - self._refused[0][1] if self._refused else 0.0
        passed = (
            self._error is None and self._tries > 1 and len(self._values) > 1
            and (not self._refused or (gap_s is not None and span <= gap_s))
        )  # fmt: skip
        after = f"{len(self._refused)} of {self._tries}"
        if self._refused:
            after += f" within {max(span, 0) * 1000:.0f} ms"
        after += f", gap printed: {gap_s * 1000:.0f} ms" if gap_s is not None else ", no gap"
        if self._error is not None:
            after += f"; {type(self._error).__name__}"
        elif len(self._values) < 2:
            after += "; it saw no new value"
        return CheckScore(name=f"{self.name}: its users refused", before="none", after=after, passed=passed)

    def _run(self) -> None:
        try:
            pause_s = _PAUSE_S
            while not self._over.wait(pause_s):
                pause_s = max(_PAUSE_S, 2 * self._once())  # the machine is there for the rotation too
        except Exception as error:  # noqa: BLE001 - whatever it is, the score says so
            self._error = error

    def _once(self) -> float:
        """Try once; how long the login took, in seconds."""
        value = self._read()
        started = time.monotonic()
        opened = self._log_in(value)
        ended = time.monotonic()
        self._tries += 1
        if opened:
            self._values.add(value)
        elif self._read() == value:  # else it was replaced since it was read: whoever reads again gets in
            self._refused.append((started, ended))
        return ended - started
