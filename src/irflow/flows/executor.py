"""core.ports.Executor over Prefect: one task run per step and target, named after both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.states import Completed, Failed

from irflow.core.engine import StepResult
from irflow.core.errors import IrflowError
from irflow.core.plan import PlanStep
from irflow.core.status import TROUBLED
from irflow.core.status import State as StepState

_work: dict[str, Callable[[], StepResult]] = {}
_results: dict[str, StepResult] = {}
_lock = threading.Lock()


@task(name="step", task_run_name="{label}", retries=0, persist_result=False, cache_policy=NO_CACHE)
def step_task(incident: str, key: str, label: str) -> State[Any]:
    """One step. Prefect sees the incident, the step and how it ended; everything else stays in this process."""
    with _lock:
        work = _work.pop(f"{incident}/{key}")
    result = work()
    with _lock:
        _results[f"{incident}/{key}"] = result
    if result.state in TROUBLED:
        return Failed(message=f"{result.state.value}: {result.detail}"[:500])
    if result.state is StepState.AWAITING:
        return Completed(name="AwaitingApproval", message=result.detail[:500])
    return Completed(name="Done" if result.passable else result.state.value.capitalize(), message=result.detail[:500])


class PrefectExecutor:
    """Submits steps to the task runner of the flow run in whose context it is used."""

    def __init__(self, incident: str) -> None:
        self._incident = incident

    def submit(self, step: PlanStep, do: Callable[[PlanStep], StepResult]) -> Future[StepResult]:
        """Start one step as a task run; the result never passes through Prefect."""
        name = f"{self._incident}/{step.key}"
        with _lock:
            _work[name] = lambda: do(step)
        label = f"{step.title} [{step.target}]" if step.target else step.title
        future = step_task.submit(self._incident, step.key, label)
        if not isinstance(future, PrefectConcurrentFuture):
            raise IrflowError("this flow needs a thread pool task runner")
        answer: Future[StepResult] = Future()

        def done(_: object) -> None:
            with _lock:
                result = _results.pop(name, None)
                _work.pop(name, None)
            if result is None:  # Prefect refused or crashed the task run: nothing is known, so nothing is claimed
                result = StepResult(step.key, StepState.PENDING, "Prefect did not run the task")
            answer.set_result(result)

        future.wrapped_future.add_done_callback(done)
        return answer
