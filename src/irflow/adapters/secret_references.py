"""References of every kind, each resolved by the store that has such."""

from __future__ import annotations

from collections.abc import Mapping

from irflow.core.errors import ServiceMissing
from irflow.core.secret import SecretRef, SecretStore, SecretValue

_HINTS = {"vault": "Name it in irflow.yaml: vault: {url: https://...}", "file": "Use file:PATH, mode 0600"}


class References:
    """core.secret.SecretStore over several. stores: by scheme."""

    def __init__(self, stores: Mapping[str, SecretStore]) -> None:
        self._stores = dict(stores)

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The value behind a reference. Raises ServiceMissing for a scheme nothing here reads, and as the store."""
        store = self._stores.get(ref.scheme)
        if store is None:
            hint = _HINTS.get(ref.scheme, f"There are {', '.join(sorted(self._stores))}")
            raise ServiceMissing(f"nothing here reads {ref.scheme}: references", where=str(ref), hint=hint)
        return store.resolve(ref)
