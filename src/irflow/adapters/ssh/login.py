"""The responder's own key and certificate, in memory for one login."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    load_ssh_public_identity,
)

from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.inventory import SIGNED, Host
from irflow.core.secret import Certifier, SecretRef, SecretStore

_KINDS: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)

_KEY_ENDS = b"-----END OPENSSH PRIVATE KEY-----\n"


def private_key(host: Host, secrets: SecretStore, certifier: Certifier | None = None) -> paramiko.PKey:
    """The host's login key, with its certificate where the inventory names one.

    Raises what the secret store and the certifier raise, and ConfigurationError for a key or certificate that cannot be
    used.
    """
    key = _parse(host, secrets.resolve(SecretRef.parse(host.key)).reveal())
    if host.certificate:
        try:
            text = _certificate(host, host.certificate, key, certifier)
            _check_matches(text, key)
            key.load_certificate(text.decode("ascii"))
        except OSError as error:
            raise ConfigurationError(
                f"the certificate {host.certificate} cannot be read: {(error.strerror or '').lower()}", where=host.name
            ) from None
        except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
            raise ConfigurationError(
                f"{host.certificate} is not an SSH certificate for the key {host.key}",
                where=host.name,
                hint="Name the *-cert.pub file that was signed for this key",
            ) from None
    return key


def _certificate(host: Host, place: str, key: paramiko.PKey, certifier: Certifier | None) -> bytes:
    """Signed now, or as it lies in a file. Raises OSError."""
    if not place.startswith(SIGNED):
        return Path(place).expanduser().read_bytes()
    if certifier is None:
        raise ServiceMissing(
            "nothing here signs SSH keys", where=host.name, hint="Name Vault in irflow.yaml: vault: {url: https://...}"
        )
    return certifier.certify(place, f"{key.get_name()} {key.get_base64()}", host.user).encode()


def certified_key(host: Host, value: bytes) -> paramiko.PKey:
    """A private key and, below it, its certificate. Raises ConfigurationError; the value is not repeated."""
    secret, end, certificate = value.partition(_KEY_ENDS)
    key = _parse(host, secret + end)
    try:
        _check_matches(certificate.strip(), key)
        key.load_certificate(certificate.strip().decode("ascii"))
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException):
        raise ConfigurationError("the secret is no key with a certificate for it", where=host.name) from None
    return key


def _check_matches(certificate: bytes, key: paramiko.PKey) -> None:
    """Raises ValueError when a certificate is for another key; paramiko compares their types only."""
    found = load_ssh_public_identity(certificate)
    if not isinstance(found, SSHCertificate):
        raise ValueError("a public key, not a certificate")
    public = found.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    if public != f"{key.get_name()} {key.get_base64()}".encode():
        raise ValueError("for another key")


def _parse(host: Host, secret: bytes) -> paramiko.PKey:
    text = secret.decode("ascii", "replace") + "\n"
    for kind in _KINDS:
        try:
            return kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError, IndexError, TypeError):
            continue  # of another type; paramiko has no way to ask
    raise ConfigurationError(
        f"{host.key} is not an ed25519, ECDSA or RSA private key without a passphrase",
        where=host.name,
        hint="Make one: ssh-keygen -t ed25519 -N '' -f FILE",
    )


def refusal_hint(host: Host) -> str:
    """What to do about a refused login; names a certificate that has run out."""
    if not host.certificate:
        return f"Put the responder's public key into the authorized_keys of {host.user} on the host"
    try:
        found = load_ssh_public_identity(Path(host.certificate).expanduser().read_bytes())
    except (OSError, ValueError):
        found = None
    if isinstance(found, SSHCertificate):
        now = datetime.now(UTC).timestamp()
        if not found.valid_after <= now < found.valid_before:
            ends = datetime.fromtimestamp(min(found.valid_before, 253402300799), UTC)  # 9999: datetime knows no more
            return f"The certificate {host.certificate} is not valid now, it ran until {ends:%Y-%m-%d %H:%M} UTC"
    return f"Must the host trust the authority of {host.certificate}, and does the certificate name {host.user}?"
