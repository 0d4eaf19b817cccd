"""The worker type `irflow`: takes flow runs from its work pool and has each forked from a preloaded parent.

It runs the flows that irflow ships, by name, and nothing else: what a deployment says of entrypoint, pull steps,
command, environment or job variables is not even read, for Prefect's API would otherwise be code execution beside the
SSH keys.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from irflow.core.errors import Refused, ServiceMissing
from irflow.core.playbook import Phase
from irflow.flows.forks import Forks
from irflow.flows.lost import identity
from irflow.flows.names import NO_TEMPLATE, WORKER_TYPE
from irflow.flows.plain import plain

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 30.0
"""A cancelled run may end the steps that are under way; then it is killed. The journal knows what it did."""

HEAD_START_S = 0.6
"""Containment and detection are asked for together; where processors are few, starting both at once costs seconds that
an attacker has. So long does a run take to start."""


class IrflowJobConfiguration(BaseJobConfiguration):
    """What a deployment or a work pool says about how to run: nothing of it counts."""

    @classmethod
    async def from_template_and_values(
        cls, base_job_template: dict[str, Any], values: dict[str, Any], client: Any = None
    ) -> IrflowJobConfiguration:
        """An empty configuration, whatever is asked for; no template is rendered, no block is read."""
        return cls()

    @classmethod
    async def resolve_for_flow_run(
        cls, flow_run: FlowRun, *, client: PrefectClient, **_: Any
    ) -> IrflowJobConfiguration:
        """The same for a flow run; only the name of its flow is looked up."""
        configuration = cls()
        configuration._related_objects = {"flow-run": flow_run, "flow": await client.read_flow(flow_run.flow_id)}
        return configuration


class IrflowVariables(BaseVariables):
    """None: the work pool's form in the UI is empty."""


class IrflowResult(BaseWorkerResult):
    """How a run's process ended."""


class IrflowWorker(BaseWorker[IrflowJobConfiguration, IrflowVariables, IrflowResult]):
    """Forks each run from the zygote."""

    type = WORKER_TYPE
    job_configuration = IrflowJobConfiguration
    job_configuration_variables = IrflowVariables
    _description = "Runs the flows shipped in irflow, forked from a preloaded parent. Started by `irflow worker`."
    _display_name = "irflow"

    forks: Forks | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cancelled: set[UUID] = set()

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """Nothing can be set."""
        return NO_TEMPLATE

    async def run(
        self,
        flow_run: FlowRun,
        configuration: IrflowJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> IrflowResult:
        """Have the run forked and wait for its end. Raises Refused for a flow that irflow does not ship."""
        if self.forks is None:
            raise ServiceMissing("this worker has no preloaded parent", hint="Start it with: irflow worker")
        from irflow.flows.shipped import FLOWS  # late: Prefect imports this module wherever it lists worker types

        name = getattr(configuration._related_objects.get("flow"), "name", "")
        if name not in FLOWS:
            raise Refused(f"irflow runs only the flows that it ships; {plain(name)} is none of them")
        if name == Phase.DETECTION.value:
            await asyncio.sleep(HEAD_START_S)
        run = str(flow_run.id)
        await self.forks.over(run)  # resumed before its last process has ended
        process = identity(await self.forks.start(run, name))
        if task_status is not None:
            task_status.started(process)
        status = await self.forks.wait(run)
        if self._cancelling_observer is not None:
            self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)
        await self._finish_cancelling(flow_run.id)
        return IrflowResult(identifier=process, status_code=status)

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Left out, like the labels: the fork takes less time than telling Prefect of it."""

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        pass

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """As in Prefect, which then leaves the watch for cancellation to the run; here it stays with the worker."""
        await super()._submit_run(flow_run)
        if self._cancelling_observer is not None and self.forks and self.forks.alive(str(flow_run.id)):
            self._cancelling_observer.add_in_flight_flow_run_id(flow_run.id)

    async def _cancel_run(self, flow_run_id: UUID) -> None:
        """End the run's process if there is one; run() then says so."""
        if self.forks is None or not self.forks.alive(str(flow_run_id)):
            await super()._cancel_run(flow_run_id)
            return
        log.info("ending flow run %s: it was cancelled", flow_run_id)
        self._cancelled.add(flow_run_id)
        await self.forks.end(str(flow_run_id), CANCEL_GRACE_S)

    async def _finish_cancelling(self, flow_run_id: UUID) -> None:
        """A run whose process has ended is no longer being cancelled: it is."""
        flow_run = await self.client.read_flow_run(flow_run_id)
        ended_by_us = flow_run_id in self._cancelled  # then its own last word was Crashed
        self._cancelled.discard(flow_run_id)
        if ended_by_us or (flow_run.state is not None and flow_run.state.type is StateType.CANCELLING):
            await self._mark_flow_run_as_cancelled(flow_run, {"message": "Cancelled; its process has ended."})

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: IrflowJobConfiguration, grace_seconds: int = 30
    ) -> None:
        """Runs are ended by name through the zygote, never by a number from Prefect's database."""
        raise NotImplementedError
