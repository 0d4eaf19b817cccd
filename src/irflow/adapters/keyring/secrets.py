"""`keyring:SERVICE/USER` references, by a keyring that is always chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.core.errors import ConfigurationError, IrflowError, ServiceMissing
from irflow.core.secret import SecretRef, SecretValue

Backend = KeyringBackend

BACKENDS = {
    "secretservice": "keyring.backends.SecretService.Keyring",
    "kwallet": "keyring.backends.kwallet.DBusKeyring",
}
"""Keyrings of the operating system, by the name in irflow.yaml. Anything else installed is not used by accident."""


def open_backend(name: str, path: Path, master: Callable[[], SecretValue]) -> KeyringBackend:
    """The keyring called `encrypted-file` (path, master) or as BACKENDS. Raises ConfigurationError, ServiceMissing."""
    if name == "encrypted-file":
        return EncryptedFileKeyring(path, master)
    if name not in BACKENDS:
        raise ConfigurationError(
            f"there is no keyring {name!r}", hint=f"There are encrypted-file, {', '.join(sorted(BACKENDS))}"
        )
    module, _, class_ = BACKENDS[name].rpartition(".")
    try:
        backend: KeyringBackend = getattr(import_module(module), class_)()
    except Exception as error:  # noqa: BLE001 - backends raise whatever their bus does
        raise _missing(name, error) from None
    return backend


@contextmanager
def named(where: str) -> Iterator[None]:
    """Turn what keyrings raise into irflow's errors. where: a reference; no message repeats a value."""
    try:
        yield
    except IrflowError:
        raise
    except KeyringError as error:
        raise ServiceMissing(
            f"the keyring cannot be used: {error}", where=where, hint="Is its master key the right one?"
        ) from None
    except Exception as error:  # noqa: BLE001 - SecretService's own errors are none of keyring's
        raise _missing(where, error) from None


class KeyringSecrets:
    """core.secret.SecretStore for `keyring:` references."""

    def __init__(self, backend: KeyringBackend) -> None:
        self._backend = backend

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The value. Raises ConfigurationError when there is no such entry, ServiceMissing when it cannot be read."""
        service, _, user = ref.path.rpartition("/")
        if not service or not user:
            raise ConfigurationError("not the form of a keyring's entry", where=str(ref), hint="keyring:SERVICE/USER")
        with named(str(ref)):
            found = self._backend.get_password(service, user)
        if found is None:
            raise ConfigurationError(
                "the keyring has no such entry",
                where=str(ref),
                hint=f"Put it there: irflow keyring set {service}/{user}",
            )
        return SecretValue(found.encode())


def _missing(where: str, error: Exception) -> ServiceMissing:
    return ServiceMissing(
        f"no keyring answers ({type(error).__name__})", where=where,
        hint="Without a desktop, use irflow's own: keyring: {backend: encrypted-file}",
    )  # fmt: skip
