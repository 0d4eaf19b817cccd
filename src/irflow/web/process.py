"""The web process: the application on its port, ended by a signal."""

from __future__ import annotations

import uvicorn

from irflow.core.ports import Clock, Store, SystemClock
from irflow.web.app import create_app
from irflow.web.board import Board
from irflow.web.door import Door
from irflow.web.sessions import Ended, Sessions
from irflow.wiring import Configuration, open_store, waker
from irflow.wiring.page import document_store, operator_tokens, operators_now, page_templates, session_key
from irflow.wiring.secrets import bootstrap_secrets

SHUTDOWN_S = 5
"""How long open connections may take to end; pages that listen for news would otherwise stay for good."""


def run_web(config: Configuration) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError for a source whose key is missing."""
    settings, clock = config.settings, SystemClock()
    with open_store(settings) as store:
        app = create_app(
            sources=config.sources,
            store=store,
            inventory=config.catalog.inventory,
            playbooks=tuple(config.catalog.playbooks.values()),
            secrets=bootstrap_secrets(settings),
            clock=clock,
            wake=waker(settings),
            board=board_of(config, store, clock),
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
            timeout_graceful_shutdown=SHUTDOWN_S,
        )


def board_of(config: Configuration, store: Store, clock: Clock) -> Board:
    """What the pages of an installation are made from: of its secrets, operators' hashed tokens and a key of our own.

    Raises ConfigurationError when one of these files is open to others.
    """
    settings = config.settings
    ended = Ended(settings.state / "web-sessions.ended", clock)
    door = Door(
        Sessions(session_key(settings), ended, clock), operator_tokens(settings), operators_now(config), clock
    )  # fmt: skip
    return Board(
        store, clock, door, page_templates(), document_store(settings), config.catalog.actions,
        lambda: settings.prefect_pages, waker(settings),
    )  # fmt: skip
