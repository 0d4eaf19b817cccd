"""The Prefect executor: one task run per step. What a step does and how it ends passes by Prefect, not through it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from threading import Lock
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed

from irflow.core.errors import IrflowError
from irflow.core.outcome import StepResult
from irflow.core.plan import PlanStep
from irflow.core.status import FINISHED
from irflow.core.status import State as StepState
from irflow.flows.plain import plain

Do = Callable[[PlanStep], StepResult]

MOST_THREADS = 256
"""As many as the thread executor has; the engine's slots decide how many of them work."""


class _Work:
    """One submitted step, until its task has run."""

    def __init__(self, step: PlanStep, do: Do) -> None:
        self.step, self.do = step, do
        self.result: Future[StepResult] = Future()


_submitted: dict[tuple[str, str], _Work] = {}
_lock = Lock()


def _run_name(*, parameters: dict[str, Any]) -> str:
    work = _submitted.get((parameters["incident"], parameters["key"]))
    if work is None:
        return plain(parameters["key"])
    return f"{plain(work.step.title, 120)}: {target}" if (target := target_of(work.step)) else plain(work.step.title)


def target_of(step: PlanStep) -> str:
    """The host, or the item that the step was made for."""
    return plain(step.target or step.key.partition("@")[2], 80)


@task(
    name="step",
    task_run_name=_run_name,  # type: ignore[arg-type] # Prefect's protocol asks for more than it calls
    retries=0,
    persist_result=False,
    cache_policy=NO_CACHE,
    log_prints=False,
)
def step_task(incident: str, key: str) -> State[Any]:
    """Run one step of a plan. Only its name and how it ended is told to Prefect."""
    with _lock:
        work = _submitted.pop((incident, key), None)
    if work is None or not work.result.set_running_or_notify_cancel():
        return Failed(message="not run: the flow run is ending")
    try:
        result = work.do(work.step)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the phase that waits gets it
        work.result.set_exception(error)
        return Failed(message=plain(f"{type(error).__name__}: {error}"))
    work.result.set_result(result)
    return state_of(result)


def state_of(result: StepResult) -> State[Any]:
    """How a step's end looks in Prefect. A hint for people: nothing reads it back."""
    message = plain(result.detail) or None
    if result.state in FINISHED:
        return Completed(name=_name(result.state), message=message)
    if result.state in (StepState.AWAITING, StepState.PENDING, StepState.OPEN):
        return Completed(name=_name(result.state), message=message)
    return Failed(name=_name(result.state), message=message or result.state.value)


def _name(state: StepState) -> str:
    """`awaiting_approval` -> `AwaitingApproval`; the usual end keeps Prefect's own word."""
    return "Completed" if state is StepState.DONE else state.value.replace("_", " ").title().replace(" ", "")


class PrefectExecutor:
    """core.ports.Executor over the task runner of the flow run that uses it; also a context manager.

    incident: its id, which with the step's key is all that Prefect is told.
    """

    def __init__(self, incident: str) -> None:
        self._incident = incident
        self._results: list[Future[StepResult]] = []

    def submit(self, step: PlanStep, do: Do) -> Future[StepResult]:
        """Start one step as a task run."""
        work = _Work(step, do)
        with _lock:
            _submitted[self._incident, step.key] = work
        self._results.append(work.result)
        future = step_task.submit(incident=self._incident, key=step.key)
        if not isinstance(future, PrefectConcurrentFuture):
            raise IrflowError("this flow needs a thread pool task runner")
        future.wrapped_future.add_done_callback(lambda _: _unanswered(work))
        return work.result

    def __enter__(self) -> PrefectExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the steps that run: their connections are closed next. What has not begun never will."""
        with _lock:
            for name in [name for name in _submitted if name[0] == self._incident]:
                _submitted.pop(name).result.cancel()
        wait(self._results)


def _unanswered(work: _Work) -> None:
    """A task that ended without running its step must not leave the phase waiting for ever."""
    if work.result.cancel():
        return
    if not work.result.done():
        work.result.set_exception(CancelledError(f"Prefect did not run {work.step.key}"))
