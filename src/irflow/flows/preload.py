"""What flow runs import late, imported ahead once for all of them. Nothing here may start a thread."""

from __future__ import annotations

from importlib import import_module

MODULES = (
    "anyio._backends._asyncio",
    "cryptography.hazmat.backends.openssl.backend",
    "irflow.adapters.prober",
    "irflow.adapters.ssh",
    "prefect._internal.metrics",
    "prefect._internal.observers",
    "prefect.artifacts",
    "prefect.events.clients",
    "prefect.results",
    "prefect.task_engine",
    "prefect.task_runners",
    "sqlalchemy.dialects.sqlite",
)


def preload() -> None:
    """Import them."""
    for name in MODULES:
        import_module(name)
