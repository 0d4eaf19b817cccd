"""`irflow worker`: preload, fork the zygote, then take flow runs from Prefect until told to stop.

Prefect finds worker types by importing this module (entry point `prefect.collections`). To run the worker, Prefect must
not be imported before its environment is set; hence the late imports.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from irflow.adapters.prefect_api import worker_socket
from irflow.adapters.wake import WakeSocket
from irflow.config import Settings
from irflow.core.errors import ServiceMissing
from irflow.flows import environment, installation, zygote

if "prefect" in sys.modules:  # Prefect is looking for worker types
    from irflow.flows.worker_type import IrflowWorker as IrflowWorker

if TYPE_CHECKING:
    from irflow.flows.forks import Forks

log = logging.getLogger(__name__)

POLL_S = 1.0
"""irflow's own requests wake the worker; only those from Prefect's UI and schedules wait for this."""
SYNC_S = 15.0
FILES_S = 5.0
"""How often it is looked whether the files have changed that deployments are made from."""
RETRY_S = 1.0
PREFECT_WITHIN_S = 120.0
READY_FILE = "worker.ready"


def run_worker(settings: Settings, *, poll_s: float = POLL_S) -> None:
    """Work until SIGTERM or SIGINT. poll_s: how often Prefect is asked for runs.

    Raises ServiceMissing when Prefect does not come up, or when the preloaded parent has died: whoever supervises this
    process starts it again.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    installation.use(settings.home.absolute())
    environment.enter(settings, environment.client_environment(settings))
    from irflow.flows.clean_states import redact_states
    from irflow.flows.preload import preload
    from irflow.flows.runs import run_one

    preload()
    redact_states()
    installation.configuration()
    pid, sock = zygote.spawn(_refresh, run_one)
    try:
        asyncio.run(_Service(settings, sock, poll_s).main())
    finally:
        os.waitpid(pid, 0)  # it ends by itself, and its runs with it, once the socket is closed


def _refresh() -> None:
    """Read the configuration anew where it has changed. A mistake in it is the next run's to report."""
    try:
        installation.configuration()
    except Exception as error:  # noqa: BLE001 - the zygote must live on, whatever a file holds
        log.error("%s", error)


def ready_file(settings: Settings) -> Path:
    """Exists, with the worker's process id in it, while the worker takes flow runs."""
    return settings.run / READY_FILE


class _Service:
    """The worker's loops."""

    def __init__(self, settings: Settings, sock: socket.socket, poll_s: float) -> None:
        self._settings, self._sock, self._poll_s = settings, sock, poll_s
        self._stop = asyncio.Event()
        self._woken = asyncio.Event()

    async def main(self) -> None:
        """Run until stopped or until the zygote is gone."""
        from irflow.flows.forks import Forks

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        path = worker_socket(self._settings)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        bell = WakeSocket(path)
        loop.add_reader(bell.fileno(), self._ring, bell)
        forks = Forks(self._sock)
        ready = asyncio.Event()
        tasks = [
            asyncio.create_task(forks.listen(ready)),
            asyncio.create_task(self._stop.wait()),
            asyncio.create_task(self._work(forks, ready)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not self._stop.is_set():
                raise ServiceMissing("the preloaded parent of flow runs has died", hint="The worker has to start again")
        finally:
            ready_file(self._settings).unlink(missing_ok=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            forks.close()
            loop.remove_reader(bell.fileno())
            bell.close()

    def _ring(self, bell: WakeSocket) -> None:
        bell.wait(0)
        self._woken.set()

    async def _work(self, forks: Forks, ready: asyncio.Event) -> None:
        from irflow.flows.names import POOL
        from irflow.flows.registration import Registration
        from irflow.flows.worker_type import IrflowWorker

        await ready.wait()
        await _prefect_is_up(self._settings)
        registration = Registration(self._settings)
        await registration.register()
        name = f"irflow {socket.gethostname()} {os.getpid()}"
        async with IrflowWorker(work_pool_name=POOL, name=name, prefetch_seconds=1) as worker:
            worker.forks = forks
            path = ready_file(self._settings)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(str(os.getpid()))
            log.info("the worker takes flow runs")
            await asyncio.gather(
                _often("asking for flow runs", worker.get_and_submit_flow_runs, self._poll_s, self._woken),
                _often("telling Prefect that this worker lives", worker.sync_with_backend, SYNC_S, asyncio.Event()),
                _often("registering what has changed", registration.look, FILES_S, asyncio.Event()),
            )


async def _often(what: str, work: Callable[[], Awaitable[object]], every_s: float, woken: asyncio.Event) -> None:
    """Do it for ever, and at once when woken; Prefect being away is told once, and once more when it is back."""
    away = False
    while True:
        try:
            await work()
            if away:
                log.info("%s works again", what)
            away = False
        except Exception as error:  # noqa: BLE001 - Prefect's client raises many kinds, and none may end the worker
            if not away:
                log.warning("%s failed (%s); trying on", what, type(error).__name__)
            away = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(woken.wait(), max(every_s, RETRY_S) if away else every_s)
        woken.clear()


async def _prefect_is_up(settings: Settings) -> None:
    """Wait for the API. Raises ServiceMissing when it does not come up, or does not know us."""
    deadline = time.monotonic() + PREFECT_WITHIN_S
    user, _, password = environment.auth_string(settings).partition(":")
    async with httpx.AsyncClient(timeout=5, trust_env=False, auth=(user, password) if user else None) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                reply = await client.get(f"{settings.prefect_api}/admin/version")
                if reply.status_code in (401, 403):
                    raise ServiceMissing(
                        "Prefect refuses our password", where=settings.prefect_api,
                        hint=f"Put user:password into {settings.prefect_auth_file}, mode 0600",
                    )  # fmt: skip
                if reply.is_success:
                    return
            if time.monotonic() > deadline:
                raise ServiceMissing("Prefect does not answer", where=settings.prefect_api, hint="irflow up starts it")
            await asyncio.sleep(0.1)
