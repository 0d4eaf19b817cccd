"""Certificates for the responder's SSH keys, signed by a role of Vault's SSH engine."""

from __future__ import annotations

from irflow.adapters.vault.session import Session
from irflow.core.errors import ConfigurationError
from irflow.core.inventory import SIGNED


class VaultCertificates:
    """core.secret.Certifier. The private key never leaves this process."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def certify(self, place: str, public: str, user: str) -> str:
        """See core.secret.Certifier. How long it is valid is the role's to say."""
        asked = {"public_key": public, "valid_principals": user, "cert_type": "user"}
        path = place.removeprefix(SIGNED)
        said = self._session.call(place, lambda client: client.write_data(path, data=asked))
        if not isinstance(said, dict) or "signed_key" not in said["data"]:
            raise ConfigurationError("Vault signs nothing there", where=place, hint="Write vault:MOUNT/sign/ROLE")
        return str(said["data"]["signed_key"])
