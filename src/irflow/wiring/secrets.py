"""Where references lead: files, and Vault once one is resolved."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from irflow.adapters.secret_environment import EnvironmentSecrets
from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.secret_references import References
from irflow.config import KeyringSettings, Settings
from irflow.core.errors import ConfigurationError
from irflow.core.secret import Certifier, SecretRef, SecretStore, SecretValue
from irflow.core.secret_inventory import ManagedSecret

if TYPE_CHECKING:
    from irflow.adapters.keyring.document import KeyringDocument
    from irflow.adapters.keyring.secrets import Backend
    from irflow.adapters.vault.documents import KvDocument
    from irflow.adapters.vault.session import Session


def secret_store(settings: Settings) -> SecretStore:
    """What turns references into values."""
    return References({**_bootstrap(settings), **({"vault": _Vault(settings)} if settings.vault else {})})


def bootstrap_secrets(settings: Settings) -> SecretStore:
    """What resolves references that must not lead to Vault: of its login, and of the process that faces the network."""
    return References(_bootstrap(settings))


def _bootstrap(settings: Settings) -> dict[str, SecretStore]:
    return {
        "file": FileSecrets(),
        "env": EnvironmentSecrets(),
        **({"keyring": _Keyring(settings.keyring)} if settings.keyring else {}),
    }


class _Keyring:
    """`keyring:` references; the library is loaded when the first is resolved."""

    def __init__(self, settings: KeyringSettings) -> None:
        self._settings = settings

    def resolve(self, ref: SecretRef) -> SecretValue:
        """See core.secret.SecretStore."""
        from irflow.adapters.keyring.secrets import KeyringSecrets

        return KeyringSecrets(self._backend).resolve(ref)

    @cached_property
    def _backend(self) -> Backend:
        """Opened once: stretching the master key takes 0.1 s."""
        return open_keyring(self._settings)


def open_keyring(settings: KeyringSettings) -> Backend:
    """The keyring that irflow.yaml names. Raises ConfigurationError, ServiceMissing."""
    from irflow.adapters.keyring.secrets import open_backend

    key = SecretRef.parse(settings.key, bootstrap=True)
    opening = References({"file": FileSecrets(), "env": EnvironmentSecrets()})
    return open_backend(settings.backend, settings.file, lambda: opening.resolve(key))


def file_secret(ref: SecretRef) -> SecretValue:
    """The value in a file. Raises ConfigurationError."""
    return FileSecrets().resolve(ref)


class _Vault:
    """`vault:` references; the library is loaded, and the login made, when the first is resolved."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._store: SecretStore | None = None

    def resolve(self, ref: SecretRef) -> SecretValue:
        """See core.secret.SecretStore."""
        with self._lock:
            if self._store is None:
                from irflow.adapters.vault.documents import VaultSecrets

                self._store = VaultSecrets(vault_session(self._settings))
        return self._store.resolve(ref)


class _Certifier:
    """core.secret.Certifier; the library is loaded, and the login made, when the first certificate is asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._real: Certifier | None = None

    def certify(self, place: str, public: str, user: str) -> str:
        """See core.secret.Certifier."""
        with self._lock:
            if self._real is None:
                from irflow.adapters.vault.ssh_certificates import VaultCertificates

                self._real = VaultCertificates(vault_session(self._settings))
        return self._real.certify(place, public, user)


def ssh_certifier(settings: Settings) -> Certifier | None:
    """What signs the responder's SSH keys; None where irflow.yaml names no Vault."""
    return _Certifier(settings) if settings.vault else None


def vault_session(settings: Settings) -> Session:
    """A login to Vault, made at the first call. Raises ConfigurationError without `vault` in irflow.yaml."""
    from irflow.adapters.vault.session import Login, Session

    vault = settings.vault
    if vault is None:
        raise ConfigurationError(
            "it names no Vault", where="irflow.yaml",
            hint="Write vault: {url: https://...}; to try things out: irflow vault up",
        )  # fmt: skip
    login = Login(
        vault.url,
        SecretRef.parse(vault.role, bootstrap=True),
        SecretRef.parse(vault.secret, bootstrap=True),
        vault.ca,
        int(vault.timeout.total_seconds()),
    )
    return Session(login, bootstrap_secrets(settings))


def secret_document(settings: Settings, one: ManagedSecret) -> KvDocument | KeyringDocument:
    """Where one secret of secrets.yaml lives. Raises ConfigurationError when irflow.yaml does not name the place."""
    if one.ref.scheme == "keyring":
        return keyring_document(settings, one.ref)
    from irflow.adapters.vault.documents import KvDocument

    return KvDocument(vault_session(settings), one.ref)


def keyring_document(settings: Settings, ref: SecretRef) -> KeyringDocument:
    """A document in the keyring. Raises ConfigurationError when irflow.yaml names none."""
    from irflow.adapters.keyring.document import KeyringDocument

    if settings.keyring is None:
        raise ConfigurationError(
            "it names no keyring", where="irflow.yaml", hint="Write keyring: {backend: encrypted-file, ...}"
        )
    return KeyringDocument(open_keyring(settings.keyring), ref, settings.state / "keyring.lock")
