"""Flow runs whose process has died together with its worker: Prefect would show them as running for ever."""

from __future__ import annotations

import socket
from pathlib import Path

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelled, Crashed

from irflow.flows.names import POOL

UNDER_WAY = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


def identity(pid: int) -> str:
    """Machine, process namespace, process id and start (ticks since boot): together never another process."""
    return f"{_here()}/{pid}/{_started(pid)}"


def gone(identity_: str) -> bool:
    """Whether this is a process of this machine that does not run any more. Others cannot be judged from here."""
    machine, pid, started = (["", "", *identity_.rsplit("/", 2)])[-3:]
    return machine == _here() and pid.isdigit() and _started(int(pid)) != started


async def report_lost(client: PrefectClient) -> list[str]:
    """Tell Prefect of every run of our pool whose process is gone. Returns their names.

    Nothing is run again here: the reconciler does that, from the journal.
    """
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNDER_WAY))),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL])),
    )
    lost = [run for run in found if run.infrastructure_pid and gone(run.infrastructure_pid)]
    for run in lost:
        cancelling = run.state is not None and run.state.type is StateType.CANCELLING
        message = "its process ended together with the worker"
        state: State[None] = Cancelled(message=message) if cancelling else Crashed(message=message)
        await client.set_flow_run_state(run.id, state, force=True)
    return [run.name for run in lost]


def _here() -> str:
    return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
