"""The executor without Prefect: plain threads. The engine's slots decide how many of them work at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from irflow.core.outcome import StepResult
from irflow.core.plan import PlanStep

MOST_THREADS = 256
"""Waiting threads are cheap; more than this many steps queue."""


class ThreadExecutor:
    """core.ports.Executor over a thread pool; also a context manager."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="step")

    def submit(self, step: PlanStep, do: Callable[[PlanStep], StepResult]) -> Future[StepResult]:
        """Start one step in a thread."""
        return self._pool.submit(do, step)

    def close(self) -> None:
        """Wait for running steps and end the threads."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> ThreadExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
