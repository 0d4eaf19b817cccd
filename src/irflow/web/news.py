"""News for open pages: one look at the journal a second, told to all who listen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio

from irflow.core.errors import IrflowError
from irflow.core.ports import Store

T = TypeVar("T")
log = logging.getLogger(__name__)

EVERY_S = 1.0
MOST_LISTENERS = 64
"""Pages open at once that are told; others look again by themselves."""


class News:
    """Of one process and its event loop. It looks only while somebody listens."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store, self._pool = store, pool
        self._moved = asyncio.Condition()
        self._position = 0
        self._watch: asyncio.Task[None] | None = None
        self.listeners = 0
        self._over: anyio.Event | None = None

    @property
    def over(self) -> anyio.Event:
        """Set by the server when it ends, so that listeners go with a word. Of the event loop alone."""
        self._over = self._over or anyio.Event()
        return self._over

    @property
    def full(self) -> bool:
        """Whether one more would be too many."""
        return self.listeners >= MOST_LISTENERS

    async def changes(self, last: Callable[[], int], allowed: Callable[[], bool]) -> AsyncIterator[dict[str, str]]:
        """Events for one listener: `changed` with the last sequence number when that has grown, `ended` at the end.

        last: reads the number. allowed: whether the listener may still hear it. Cancelled when the listener goes away.
        """
        self.listeners += 1
        try:
            told, heard = -1, -1
            while not self.over.is_set():
                heard = await self._next(heard)
                if not await self._read(allowed):
                    yield {"event": "ended", "data": ""}
                    return
                number = await self._read(last)
                if number != told:
                    yield {"event": "changed", "data": str(number), "id": str(number)}
                    told = number
        except IrflowError as error:  # the browser asks again by itself
            log.warning("a page hears no more news: %s", error)
        finally:
            self.listeners -= 1

    def close(self) -> None:
        """Stop looking."""
        if self._watch is not None:
            self._watch.cancel()

    async def _next(self, heard: int) -> int:
        """Wait until the journal has moved on from what was heard, some seconds at most. Returns where it is."""
        if self._watch is None or self._watch.done():
            self._position = await self._read(self._store.position)
            self._watch = asyncio.create_task(self._look())
        async with self._moved:
            try:
                async with asyncio.timeout(10 * EVERY_S):  # whoever was locked out meanwhile must not go on hearing
                    await self._moved.wait_for(lambda: self._position != heard or self.over.is_set())
            except TimeoutError:
                pass
            return self._position

    async def _look(self) -> None:
        while self.listeners:
            await asyncio.sleep(EVERY_S)
            try:
                position = await self._read(self._store.position)
            except IrflowError as error:
                log.warning("no look for news: %s", error)
                continue
            if position != self._position or self.over.is_set():
                async with self._moved:
                    self._position = position
                    self._moved.notify_all()

    async def _read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
