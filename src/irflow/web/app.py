"""The web application: alerts come in, status goes out. It holds no key but its own webhooks'."""

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
from irflow.web.status import status_routes
from irflow.web.webhooks import THREADS, Desk, webhook_routes


def create_app(
    *, sources: Iterable[Source], store: Store, inventory: Inventory, playbooks: tuple[Playbook, ...],
    secrets: SecretStore, clock: Clock, wake: Callable[[], None], kinds: Mapping[str, Kind] | None = None,
) -> FastAPI:  # fmt: skip
    """Build the application.

    secrets: asked once, for the sources' keys. wake: called after a commit that left work in the outbox; must not
    block or fail. kinds: of sources; by default irflow's own and those of entry points. The store stays the caller's.
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
    readers = ThreadPoolExecutor(4, thread_name_prefix="status")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        takers.shutdown()
        readers.shutdown()

    app = FastAPI(title="irflow", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(webhook_routes(Desk(gates, store, inventory, playbooks, clock, wake, takers)))
    app.include_router(status_routes(store, clock, readers))
    return app
