"""The deployments: registered when the worker starts, and again when the files that they are made from have changed."""

from __future__ import annotations

import asyncio
import logging

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from irflow.config import Settings
from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.flows import installation
from irflow.flows.deployments import register
from irflow.flows.lost import report_lost
from irflow.wiring import Configuration

log = logging.getLogger(__name__)

RETRY_S = 1.0
TRIES = 20


class Registration:
    """Knows which configuration Prefect was last told of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registered: Configuration | None = None
        self._told = ""

    async def look(self) -> None:
        """Register what has changed. With a mistake in a file all stays as it is, and the mistake is told once."""
        try:
            config = await asyncio.to_thread(installation.configuration)
        except ConfigurationError as error:
            if str(error) != self._told:
                log.error("the deployments stay as they are until this is mended: %s", error)
            self._told = str(error)
            return
        self._told = ""
        if config is not self._registered:
            await self._register(config)
            self._registered = config

    async def register(self) -> None:
        """Tell of runs that were lost with an earlier worker, and make what irflow itself starts flow runs by.

        The forms for people, fifty of them, come with the first look: the worker takes flow runs before that. Raises
        ServiceMissing when Prefect goes on refusing: its SQLite answers 503 while somebody else writes.
        """
        await self._register(installation.configuration(), first=True)

    async def _register(self, config: Configuration, *, first: bool = False) -> None:
        for left in reversed(range(TRIES)):
            try:
                async with get_client() as client:
                    for name in await report_lost(client) if first else ():
                        log.warning("%s: its process ended together with an earlier worker", name)
                    changed = await register(client, config, forms=not first)
                break
            except (httpx.HTTPError, PrefectHTTPStatusError) as error:
                status = getattr(getattr(error, "response", None), "status_code", 0)
                if not left or 400 <= status < 500:
                    raise ServiceMissing(
                        f"Prefect takes no deployments ({status or type(error).__name__})",
                        where=self._settings.prefect_api, hint=f"Look into {self._settings.logs / 'prefect.log'}",
                    ) from error  # fmt: skip
                log.warning("Prefect answered %s to the deployments; trying again", status or type(error).__name__)
            await asyncio.sleep(RETRY_S)
        if changed:
            log.info("registered %s", ", ".join(changed))
