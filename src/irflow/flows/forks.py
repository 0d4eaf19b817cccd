"""The worker's end of the zygote's socket: starts runs, signals them, waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from typing import Any

from irflow.core.errors import ServiceMissing


class Forks:
    """Our end of the zygote: starts runs, signals them, and knows which are alive."""

    def __init__(self, sock: socket.socket) -> None:
        self.gone = asyncio.Event()
        self._sock = sock
        self._started: dict[str, asyncio.Future[int]] = {}
        self._ended: dict[str, asyncio.Future[int]] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def listen(self, ready: asyncio.Event) -> None:
        """Take the zygote's messages until it is gone; then every waiting run fails."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._sock)
        with contextlib.suppress(ConnectionResetError):
            async for line in reader:
                message = json.loads(line)
                if "ready" in message:
                    ready.set()
                elif "started" in message:
                    _answer(self._started.get(message["started"]), message["pid"])
                elif "ended" in message:
                    _answer(self._ended.get(message["ended"]), message["status"])
        self.gone.set()
        for future in [*self._started.values(), *self._ended.values()]:
            if not future.done():
                future.set_exception(ServiceMissing("the preloaded parent of flow runs has died"))

    async def start(self, run: str, flow: str) -> int:
        """Have a run of a shipped flow forked. Returns its process id."""
        loop = asyncio.get_running_loop()
        self._started[run], self._ended[run] = loop.create_future(), loop.create_future()
        self._ended[run].add_done_callback(lambda future: future.cancelled() or future.exception())
        try:
            await self._send({"run": run, "flow": flow})
            return await self._started[run]
        finally:
            del self._started[run]

    async def wait(self, run: str) -> int:
        """The exit status of a started run; negative for a signal."""
        mine = self._ended[run]
        try:
            return await asyncio.shield(mine)
        finally:
            if self._ended.get(run) is mine:
                del self._ended[run]

    async def over(self, run: str) -> None:
        """Wait until no process of this run is there: one that was suspended may still be telling its last words."""
        while (ended := self._ended.get(run)) is not None and not ended.done():
            with contextlib.suppress(ServiceMissing):
                await asyncio.shield(ended)

    def alive(self, run: str) -> bool:
        """Whether a run's process has not ended."""
        return run in self._ended and not self._ended[run].done()

    async def end(self, run: str, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after a while."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            ended = self._ended.get(run)
            if ended is None or ended.done():
                return
            await self._send({"signal": int(number), "of": run})
            with contextlib.suppress(TimeoutError, ServiceMissing):
                await asyncio.wait_for(asyncio.shield(ended), grace_s)

    def close(self) -> None:
        """Let the zygote go; it ends its runs and itself."""
        if self._writer is not None:
            self._writer.close()
        self._sock.close()

    async def _send(self, message: dict[str, Any]) -> None:
        if self._writer is None or self.gone.is_set():
            raise ServiceMissing("the preloaded parent of flow runs has died")
        self._writer.write(json.dumps(message).encode() + b"\n")
        await self._writer.drain()


def _answer(future: asyncio.Future[int] | None, value: int) -> None:
    if future is not None and not future.done():
        future.set_result(value)
