"""The authorities of Vault's SSH engine, and probes: a key with a certificate that lives in memory alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    SSHCertificate,
    load_ssh_public_identity,
)

from irflow.adapters.engines._vault import read, write
from irflow.adapters.vault.failures import VaultFailing, VaultPathMissing
from irflow.core.errors import CheckFailed, ConfigurationError
from irflow.core.rotation_means import VaultCalls
from irflow.core.secret import SecretValue


@dataclass(frozen=True)
class Issuer:
    """One authority. public: `TYPE BASE64`."""

    id: str
    name: str
    public: str


@dataclass(frozen=True)
class Probe:
    """A key and a certificate for it, as adapters.ssh takes both. until: when it runs out, seconds since 1970."""

    value: SecretValue
    until: float

    @classmethod
    def parse(cls, text: str) -> Probe:
        """One that was noted. Raises ValueError."""
        return cls(SecretValue(text.encode()), _certificate(text.splitlines()[-1]).valid_before)

    def lasts(self, seconds: float) -> bool:
        """Whether it is valid for so long: a refusal of one that has run out proves nothing."""
        return time.time() + seconds < self.until


@dataclass(frozen=True)
class Issuers:
    """Those at a mount. Needs OpenBao: an engine that holds one authority at a time cannot make the next beside it."""

    calls: VaultCalls
    mount: str

    def there(self) -> dict[str, Issuer]:
        """All of them by id. Raises ConfigurationError where there are none."""
        path = f"{self.mount}/issuers"
        try:
            found = self.calls.call(path, lambda client: client.list(path))
        except VaultPathMissing:
            found = None
        if not found:
            raise ConfigurationError(
                "there are no authorities", where=path, hint="Is it OpenBao's SSH engine, with a key in config/ca?"
            )
        about = found["data"]["key_info"]
        return {one: Issuer(one, info["issuer_name"], plain(info["public_key"])) for one, info in about.items()}

    def default(self) -> Issuer:
        """The one that signs for roles that name none."""
        chosen = read(self.calls, f"{self.mount}/config/issuers").get("default")
        there = self.there()
        if chosen not in there:
            raise ConfigurationError("no authority is the default one", where=f"{self.mount}/config/issuers")
        return there[chosen]

    def make(self, name: str, key_type: str) -> Issuer:
        """The one of this name, made by Vault if there is none: its private key never leaves Vault."""
        found = self._called(name)
        if found is None:
            path = f"{self.mount}/issuers/import/{name}"
            try:
                write(self.calls, path, generate_signing_key=True, key_type=key_type)
            except VaultFailing:  # unless somebody else was faster
                if self._called(name) is None:
                    raise
            found = self._called(name)
        if found is None:
            raise CheckFailed("Vault made no authority", where=self.mount, hint="Look at its log")
        return found

    def choose(self, issuer: Issuer) -> None:
        """Make it the default one."""
        write(self.calls, f"{self.mount}/config/issuers", default=issuer.id)

    def delete(self, issuer_id: str) -> None:
        """Forget its private key for good."""
        path = f"{self.mount}/issuer/{issuer_id}"
        self.calls.call(path, lambda client: client.delete(path))

    def sign(self, role: str, principal: str, by: Issuer) -> Probe:
        """A new key with a certificate of the default authority, which must be `by`. Raises CheckFailed."""
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        path = f"{self.mount}/sign/{role}"
        said = write(self.calls, path, public_key=public, valid_principals=principal, cert_type="user")
        certificate = said["signed_key"].strip()
        found = _certificate(certificate)
        if plain(found.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()) != by.public:
            raise CheckFailed("another authority has signed", where=path, hint="Take issuer_ref away from the role")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        return Probe(SecretValue(f"{private}{certificate}\n".encode()), found.valid_before)

    def _called(self, name: str) -> Issuer | None:
        return next((one for one in self.there().values() if one.name == name), None)


def plain(public: str) -> str:
    """A public key as `TYPE BASE64`, without a comment."""
    return " ".join(public.split()[:2])


def signer(certificate: bytes) -> str:
    """The authority of a certificate as `TYPE BASE64`. Raises ValueError."""
    public: Any = _certificate(certificate.decode("ascii")).signature_key()
    return plain(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def _certificate(text: str) -> SSHCertificate:
    found = load_ssh_public_identity(text.strip().encode())
    if not isinstance(found, SSHCertificate):
        raise ValueError("not a certificate")
    return found
