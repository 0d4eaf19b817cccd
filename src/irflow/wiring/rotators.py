"""What rotates the secrets of secrets.yaml."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property

from irflow.adapters.targets import open_target
from irflow.adapters.vault.documents import KvDocument
from irflow.adapters.vault.session import Session
from irflow.core.ports import Shell
from irflow.core.rotation import Logins, Means, Rotator
from irflow.core.rotations import Done, Told, each
from irflow.core.secret_inventory import ManagedSecret
from irflow.wiring import Configuration, build_shell
from irflow.wiring.secrets import secret_store, vault_session


class VaultRotations:
    """core.rotations.Rotations. shell, logins: for targets on hosts. Nothing is connected before the first use."""

    def __init__(self, config: Configuration, shell: Shell, logins: Logins) -> None:
        self.inventory = config.secrets
        self._config, self._shell, self._logins = config, shell, logins

    def rotate(self, names: Iterable[str], run: str, told: Told) -> tuple[Done, ...]:
        """See core.rotations.Rotations."""
        return each(self.inventory, names, lambda one: self.rotator(one, told).rotate(run))

    def verify(self, names: Iterable[str]) -> tuple[Done, ...]:
        """See core.rotations.Rotations."""
        return each(self.inventory, names, lambda one: self.rotator(one).verify())

    def rotator(self, one: ManagedSecret, told: Told = lambda name, step, version: None) -> Rotator:
        """What rotates one of them."""
        params = {key: value for key, value in one.target.items() if key != "kind"}
        return Rotator(
            KvDocument(self._session, one.ref), open_target(one.kind, params, self._means), one.on_failure,
            time.monotonic, lambda step, version: told(one.name, step, version),
        )  # fmt: skip

    @cached_property
    def _session(self) -> Session:
        return vault_session(self._config.settings)

    @cached_property
    def _means(self) -> Means:
        store = secret_store(self._config.settings)
        return Means(store, self._config.catalog.inventory, self._shell, self._logins)


@contextmanager
def open_rotations(config: Configuration) -> Iterator[VaultRotations]:
    """With SSH of their own, which is closed at the end."""
    shell = build_shell(config)
    try:
        yield VaultRotations(config, shell, shell)
    finally:
        shell.close()
