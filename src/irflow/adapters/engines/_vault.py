"""What the engines have in common: calls to Vault's API by path."""

from __future__ import annotations

from typing import Any

from irflow.core.errors import ConfigurationError
from irflow.core.rotation_means import Means, VaultCalls

PATH = r"^[A-Za-z0-9_-][A-Za-z0-9_./ -]{0,200}$"
"""A mount, or a name below one; no `..`, which the server would follow."""


def vault(means: Means) -> VaultCalls:
    """The Vault of irflow.yaml. Raises ConfigurationError where it names none."""
    if means.vault is None:
        raise ConfigurationError("it names no Vault", where="irflow.yaml", hint="Write vault: {url: https://...}")
    return means.vault


def read(calls: VaultCalls, path: str) -> dict[str, Any]:
    """What is at a path; empty when there is nothing."""
    found = calls.call(path, lambda client: client.read(path))
    return dict(found["data"]) if found else {}


def names(calls: VaultCalls, path: str) -> list[str]:
    """What lies below a path; none when there is nothing."""
    found = calls.call(path, lambda client: client.list(path))
    return list(found["data"]["keys"]) if found else []


def write(calls: VaultCalls, path: str, **data: Any) -> dict[str, Any]:
    """What Vault answers to data that is written to a path."""
    said = calls.call(path, lambda client: client.write_data(path, data=data))
    return dict(said.get("data") or {}) if isinstance(said, dict) else {}
