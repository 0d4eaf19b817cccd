"""The web application: alerts come in, pages go out. It holds no key but its webhooks' and that of its sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

from irflow.core.errors import ConfigurationError
from irflow.core.inventory import Inventory
from irflow.core.playbook import Playbook
from irflow.core.ports import Clock, Store
from irflow.core.secret import SecretStore
from irflow.intake.gate import Gate, open_gate
from irflow.intake.kind import Kind, load_kinds
from irflow.intake.source import Source
from irflow.web.board import Board
from irflow.web.entry import Entry
from irflow.web.health import health_routes
from irflow.web.login import login_routes
from irflow.web.news import News
from irflow.web.routes import page_routes
from irflow.web.screen import Screen
from irflow.web.webhooks import THREADS, Desk, webhook_routes


def create_app(
    *, sources: Iterable[Source], store: Store, inventory: Inventory, playbooks: tuple[Playbook, ...],
    secrets: SecretStore, clock: Clock, wake: Callable[[], None], kinds: Mapping[str, Kind] | None = None,
    board: Board | None = None,
) -> FastAPI:  # fmt: skip
    """Build the application.

    secrets: asked once, for the sources' keys. wake: called after a commit that left work in the outbox; must not
    block or fail. kinds: of sources; by default irflow's own and those of entry points. board: what the pages are made
    from; without one there are none. The store stays the caller's.
    Raises ConfigurationError naming a source with an unknown kind, a bad or missing key, or a name used twice.
    """
    known = load_kinds() if kinds is None else kinds
    gates: dict[str, Gate] = {}
    for source in sources:
        if source.name in gates:
            raise ConfigurationError("two sources have this name", where=f"source {source.name}")
        gates[source.name] = open_gate(source, known, secrets)
    # Pages and health have threads of their own: a flood of alerts must not make the process look dead.
    takers = ThreadPoolExecutor(THREADS, thread_name_prefix="intake")
    pulse = ThreadPoolExecutor(2, thread_name_prefix="health")
    news = News(store, board.pool) if board else None

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if board is not None and news is not None:
            news.close()
            board.pool.shutdown()
        takers.shutdown()
        pulse.shutdown()

    app = FastAPI(title="irflow", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(webhook_routes(Desk(gates, store, inventory, playbooks, clock, wake, takers)))
    app.include_router(health_routes(store, pulse))
    if board is not None and news is not None:
        screen = Screen(board)
        entry = Entry(board, screen)
        for router in (screen.routes(), login_routes(entry), page_routes(entry, news)):
            app.include_router(router)
    return app
