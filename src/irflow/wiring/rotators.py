"""What rotates the secrets of secrets.yaml."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property

from irflow.adapters.engines import kinds as engines
from irflow.adapters.engines import open_engine
from irflow.adapters.secret_files import write_secret
from irflow.adapters.targets import open_target
from irflow.adapters.vault.documents import EnginePlace, KvDocument
from irflow.adapters.vault.session import Session
from irflow.core.engine_rotation import EngineRotator
from irflow.core.errors import IrflowError
from irflow.core.ports import Shell
from irflow.core.rotation import Authority, Rotator
from irflow.core.rotation_means import Logins, Means
from irflow.core.rotations import PARALLEL, Done, Rotates, Told, each
from irflow.core.secret import SecretRef, SecretValue
from irflow.core.secret_inventory import ManagedSecret
from irflow.wiring import Configuration, build_shell
from irflow.wiring.secrets import keyring_document, secret_store, vault_session


class VaultRotations:
    """core.rotations.Rotations. shell, logins: for targets on hosts. Nothing is connected before the first use."""

    def __init__(self, config: Configuration, shell: Shell, logins: Logins) -> None:
        self.inventory = config.secrets
        self._config, self._shell, self._logins = config, shell, logins

    def rotate(self, names: Iterable[str], run: str, told: Told) -> tuple[Done, ...]:
        """See core.rotations.Rotations."""
        return each(self.inventory, names, lambda one: self.rotator(one, told).rotate(run))

    def sweep(self, names: Iterable[str], told: Told) -> tuple[Done, ...]:
        """See core.rotations.Rotations."""
        return each(self.inventory, names, lambda one: self.rotator(one, told).sweep())

    def verify(self, names: Iterable[str]) -> tuple[Done, ...]:
        """See core.rotations.Rotations."""
        return each(self.inventory, names, lambda one: self.rotator(one).verify())

    def changed(self, names: Iterable[str]) -> dict[str, datetime | IrflowError | None]:
        """By name: when the live value was made, None where nobody noted it, or why that cannot be read."""

        def ask(name: str) -> tuple[str, datetime | IrflowError | None]:
            try:
                return name, self.rotator(self.inventory.get(name)).changed()
            except IrflowError as error:
                return name, error

        with ThreadPoolExecutor(PARALLEL, "changed") as pool:
            return dict(pool.map(ask, names))

    def rotator(self, one: ManagedSecret, told: Told = lambda name, step, version: None) -> Rotates:
        """What rotates one of them."""
        params = {key: value for key, value in one.target.items() if key != "kind"}

        def passed(step: str, version: int) -> None:
            told(one.name, step, version)

        if one.kind in engines():
            engine = open_engine(one.kind, params, self._means)
            return EngineRotator(EnginePlace(self._session, one.ref), engine, time.monotonic, passed)
        target = open_target(one.kind, params, self._means)

        def deliver(value: SecretValue) -> None:
            for copy in one.copies:
                write_secret(SecretRef.parse(copy), value)

        return Rotator(
            self._authority(one), target, one.on_failure, time.monotonic, passed, deliver if one.copies else None
        )

    def _authority(self, one: ManagedSecret) -> Authority:
        if one.ref.scheme == "keyring":
            return keyring_document(self._config.settings, one.ref)
        return KvDocument(self._session, one.ref)

    @cached_property
    def _session(self) -> Session:
        return vault_session(self._config.settings)

    @cached_property
    def _means(self) -> Means:
        settings = self._config.settings
        vault = self._session if settings.vault else None
        return Means(secret_store(settings), self._config.catalog.inventory, self._shell, self._logins, vault)


@contextmanager
def open_rotations(config: Configuration) -> Iterator[VaultRotations]:
    """With SSH of their own, which is closed at the end."""
    shell = build_shell(config)
    try:
        yield VaultRotations(config, shell, shell)
    finally:
        shell.close()
