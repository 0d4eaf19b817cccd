"""The web process: the application on its port, ended by a signal."""

from __future__ import annotations

import uvicorn

from irflow.core.ports import SystemClock
from irflow.web.app import create_app
from irflow.wiring import Configuration, open_store, waker
from irflow.wiring.secrets import bootstrap_secrets


def run_web(config: Configuration) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError for a source whose key is missing."""
    settings = config.settings
    with open_store(settings) as store:
        app = create_app(
            sources=config.sources,
            store=store,
            inventory=config.catalog.inventory,
            playbooks=tuple(config.catalog.playbooks.values()),
            secrets=bootstrap_secrets(settings),
            clock=SystemClock(),
            wake=waker(settings),
        )
        uvicorn.run(
            app,
            host=settings.web_host,
            port=settings.web_port,
            log_level="warning",
            access_log=False,
            server_header=False,
            ssl_certfile=settings.web_tls_certificate,
            ssl_keyfile=settings.web_tls_key,
        )
