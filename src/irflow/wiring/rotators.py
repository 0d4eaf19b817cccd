"""What rotates the secrets of secrets.yaml."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from irflow.adapters.targets import open_target
from irflow.adapters.vault.documents import KvDocument
from irflow.core.rotation import Means, Rotator
from irflow.core.secret_inventory import ManagedSecret
from irflow.wiring import Configuration, build_shell
from irflow.wiring.secrets import secret_store, vault_session


@contextmanager
def open_rotators(
    config: Configuration, passed: Callable[[str, str, int], object] = lambda name, step, version: None
) -> Iterator[Callable[[ManagedSecret], Rotator]]:
    """What rotates each secret of secrets.yaml; connections are closed at the end. passed: name, step, version."""
    session, shell = vault_session(config.settings), build_shell(config)
    means = Means(secret_store(config.settings), config.catalog.inventory, shell, shell)

    def rotator(one: ManagedSecret) -> Rotator:
        params = {key: value for key, value in one.target.items() if key != "kind"}
        return Rotator(
            KvDocument(session, one.ref), open_target(one.kind, params, means), one.on_failure, time.monotonic,
            lambda step, version: passed(one.name, step, version),
        )  # fmt: skip

    try:
        yield rotator
    finally:
        shell.close()
