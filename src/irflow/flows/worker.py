"""The worker: takes flow runs from the pool and has each forked from the preloaded parent.

It runs only the flows shipped in irflow, by name. A deployment's entrypoint, pull steps, command, environment and job
variables are never looked at: Prefect's API would otherwise be code execution beside the SSH keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

from irflow.flows.zygote import fork_zygote

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from prefect.client.schemas.objects import FlowRun

    from irflow.config import Settings

QUERY_S = "0.25"
"""How often the pool is asked; with Prefect's default of 10 s a run would wait for that (facts: prefect, section 2)."""


class Zygote:
    """Our side of the socket to the preloaded parent."""

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._sock = sock
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}
        self.ready = asyncio.Event()

    async def listen(self) -> None:
        """Read until the parent is gone; then this process must end too, so that it is started anew."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock)
        async for line in reader:
            message = json.loads(line)
            if "ready" in message:
                self.ready.set()
            for word in ("started", "ended"):
                waiting = self._waiting.pop((word, message.get(word, "")), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
        sys.stderr.write("the parent of flow runs has ended; so does the worker\n")
        os._exit(1)

    async def run(self, run_id: str, flow: str, started: Any) -> tuple[int, int]:
        """Have one flow run forked and wait for its end: (pid, exit status)."""
        await self.ready.wait()
        loop = asyncio.get_running_loop()
        begun, ended = (self._waiting.setdefault((word, run_id), loop.create_future()) for word in ("started", "ended"))
        if self._writer is None:
            raise RuntimeError("the parent of flow runs is not connected")
        self._writer.write(json.dumps({"run": run_id, "flow": flow}).encode() + b"\n")
        await self._writer.drain()
        pid = int((await begun)["pid"])
        started(pid)
        return pid, int((await ended)["status"])


def _worker_class() -> Any:
    """The worker class; Prefect is imported only here, after the zygote was forked."""
    from prefect.exceptions import InfrastructureNotFound
    from prefect.workers.base import BaseJobConfiguration, BaseWorker, BaseWorkerResult

    from irflow.flows.deployments import FLOWS, WORKER_TYPE

    class IrflowResult(BaseWorkerResult):
        """How a forked run ended."""

    class IrflowWorker(BaseWorker[BaseJobConfiguration, Any, IrflowResult]):
        """Forks each run from a preloaded parent."""

        type = WORKER_TYPE
        job_configuration = BaseJobConfiguration
        _description = "Runs irflow's own flows, forked from a preloaded parent."
        zygote: Zygote | None = None
        _names: dict[UUID, str] = {}

        async def run(
            self,
            flow_run: FlowRun,
            configuration: BaseJobConfiguration,
            task_status: TaskStatus[int] | None = None,
        ) -> IrflowResult:
            if self.zygote is None:
                raise RuntimeError("start this worker with `irflow worker`")
            name = self._names.get(flow_run.flow_id)
            if name is None:
                name = self._names[flow_run.flow_id] = (await self.client.read_flow(flow_run.flow_id)).name
            if name not in FLOWS:
                raise ValueError(f"irflow runs only its own flows; {name!r} is not one of them")
            started = task_status.started if task_status else (lambda pid: None)
            pid, status = await self.zygote.run(str(flow_run.id), name, started)
            return IrflowResult(identifier=str(pid), status_code=status)

        async def kill_infrastructure(
            self, infrastructure_pid: str, configuration: BaseJobConfiguration, grace_seconds: int = 30
        ) -> None:
            pid = int(infrastructure_pid)
            try:
                os.kill(pid, signal.SIGTERM)
                for _ in range(grace_seconds * 10):
                    await asyncio.sleep(0.1)
                    os.kill(pid, 0)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            except PermissionError as error:
                raise InfrastructureNotFound(f"process {pid} is not ours") from error

    return IrflowWorker


def run_worker(settings: Settings) -> None:
    """Register the flows and work until SIGTERM or SIGINT. Waits for Prefect as long as it takes."""
    os.environ.update(
        {
            "IRFLOW_HOME": str(settings.home),
            "PREFECT_API_URL": settings.prefect_api,
            "PREFECT_HOME": str(settings.prefect_home),
            "PREFECT_WORKER_QUERY_SECONDS": QUERY_S,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
            "DO_NOT_TRACK": "1",
        }
    )
    if settings.prefect_auth_file.exists():
        os.environ["PREFECT_API_AUTH_STRING"] = settings.prefect_auth_file.read_text().strip()
    pid, sock = fork_zygote()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_work(settings, pid, sock))


async def _work(settings: Settings, pid: int, sock: socket.socket) -> None:
    from irflow.flows.deployments import POOL, register

    zygote = Zygote(pid, sock)
    listening = asyncio.create_task(zygote.listen())
    await _until_registered(settings, register)
    worker_class = _worker_class()
    worker_class.zygote = zygote
    await zygote.ready.wait()
    worker = worker_class(work_pool_name=POOL)
    running = asyncio.create_task(worker.start())
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if running.done():
        running.result()
    os._exit(0)


async def _until_registered(settings: Settings, register: Any) -> None:
    """Register the flows once Prefect answers; until then say once why not."""
    import httpx

    told = False
    while True:
        try:
            await register(settings)
            return
        except (httpx.HTTPError, OSError, RuntimeError) as error:
            if not told:
                sys.stderr.write(f"waiting for Prefect at {settings.prefect_api}: {error}\n")
                told = True
            await asyncio.sleep(0.5)
