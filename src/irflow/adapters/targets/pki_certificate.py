"""A certificate and its key, issued by Vault. Both are valid until the old one stands on the revocation list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from pydantic import Field

from irflow.adapters.engines._vault import PATH, names, read, vault, write
from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.rotation import Document, TargetRefused, Writer
from irflow.core.rotation_means import Means, VaultCalls
from irflow.core.secret import SecretValue

KIND = "pki_certificate"


class Params(Noun):
    """role: of the PKI engine at `mount`, which issues for `common_name`. ttl: as Vault writes it; empty: the role's.

    Every other certificate with this common name is revoked too, whoever holds its key.
    """

    role: str = Field(pattern=PATH)
    common_name: str = Field(min_length=1, max_length=253)
    mount: str = Field(default="pki", pattern=PATH)
    ttl: str = Field(default="", pattern=r"^([0-9]+[smhd]?)?$")


def open_target(params: Params, means: Means) -> Certificate:
    """The target that the parameters name. Nothing is connected yet."""
    return Certificate(params, vault(means))


@dataclass(frozen=True)
class Certificate:
    """core.rotation.Target and its Writer. The value is PEM: the key, the certificate, its chain."""

    params: Params
    calls: VaultCalls
    overlap: bool = True
    asks: bool = True

    def new_value(self) -> SecretValue:
        """Have Vault issue one. What a crash leaves has a key that nobody ever saw, and goes with the next old one."""
        wanted = {"common_name": self.params.common_name, **({"ttl": self.params.ttl} if self.params.ttl else {})}
        made = write(self.calls, f"{self.params.mount}/issue/{self.params.role}", **wanted)
        chain = made.get("ca_chain") or [made["issuing_ca"]]
        return SecretValue("\n".join([made["private_key"], made["certificate"], *chain, ""]).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Every call can be repeated by anybody: a certificate is revoked once and for all."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Look at it as a peer does: within its time, signed by this authority, and not on the list it publishes."""
        found, now = self._certificate(value), datetime.now(UTC)
        if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
            return False
        authority = self.calls.fresh(f"{self.params.mount}/cert/ca", _raw(f"{self.params.mount}/ca/pem"))
        try:
            found.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
        except (ValueError, TypeError, InvalidSignature):
            return False
        revoked = x509.load_pem_x509_crl(self.calls.fresh(self.params.mount, _raw(f"{self.params.mount}/crl/pem")))
        return revoked.get_revoked_certificate_by_serial_number(found.serial_number) is None

    def apply(self, new: SecretValue, document: Document) -> None:
        """It is valid since it was issued."""
        if not self.admits(new):
            raise TargetRefused("the new certificate is not valid", where=self._where)

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Revoke it and every other of this name but the live one, and publish the list."""
        live = self._certificate(document.live).serial_number
        ended = self._certificate(value).serial_number
        for text in names(self.calls, f"{self.params.mount}/certs"):
            serial = int(text.replace(":", "").replace("-", ""), 16)
            if serial == ended or (serial != live and self._ours(text)):
                write(self.calls, f"{self.params.mount}/revoke", serial_number=text)
        read(self.calls, f"{self.params.mount}/crl/rotate")

    def disable(self, document: Document) -> None:
        """The live one is revoked."""
        serial = self._certificate(document.live).serial_number
        text = ":".join(f"{byte:02x}" for byte in serial.to_bytes((serial.bit_length() + 7) // 8, "big"))
        write(self.calls, f"{self.params.mount}/revoke", serial_number=text)
        read(self.calls, f"{self.params.mount}/crl/rotate")

    def enable(self, document: Document) -> None:
        """The new one was never revoked."""

    def _ours(self, serial: str) -> bool:
        """Whether a certificate that Vault has issued has this common name, is still valid and not revoked yet."""
        about = read(self.calls, f"{self.params.mount}/cert/{serial}")
        if about.get("revocation_time"):
            return False
        found = x509.load_pem_x509_certificate(about["certificate"].encode())
        here = [one.value for one in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
        return self.params.common_name in here and found.not_valid_after_utc > datetime.now(UTC)

    def _certificate(self, value: SecretValue) -> x509.Certificate:
        """The first in the value. Raises ConfigurationError; the value is not repeated."""
        try:
            return x509.load_pem_x509_certificates(value.reveal())[0]
        except ValueError:
            raise ConfigurationError("the secret is no certificate in PEM", where=self._where) from None

    @property
    def _where(self) -> str:
        return f"{self.params.mount}/{self.params.common_name}"


def _raw(path: str) -> Any:
    """What a client gets from a path that answers with text instead of JSON."""
    return lambda client: client.adapter.get(url=f"/v1/{path}").content
