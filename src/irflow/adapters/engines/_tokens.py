"""Tokens of Vault by their accessors, which name a token and open nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from irflow.adapters.engines._vault import names, read, write
from irflow.adapters.vault.failures import VaultFailing, VaultPathMissing
from irflow.core.rotation_means import VaultCalls


def accessors(calls: VaultCalls) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each token's accessor and what Vault says about it. One that ends meanwhile is left out."""
    for name in names(calls, "auth/token/accessors"):
        try:
            yield name, write(calls, "auth/token/lookup-accessor", accessor=name)
        except (VaultFailing, VaultPathMissing):
            continue


def own_accessor(calls: VaultCalls) -> str:
    """Of the token that irflow is logged in with."""
    return str(read(calls, "auth/token/lookup-self")["accessor"])


def role_of(about: dict[str, Any]) -> str | None:
    """The role of AppRole that logged in for a token, None for other tokens."""
    return (about.get("meta") or {}).get("role_name")


def mount_of(about: dict[str, Any]) -> str:
    """Where somebody logged in for a token: roles of the same name at two mounts are two roles."""
    return str(about.get("path", "")).removeprefix("auth/").rpartition("/login")[0]


def end(calls: VaultCalls, accessor: str) -> None:
    """End a token with all that were made from it; one that is gone is as good."""
    try:
        write(calls, "auth/token/revoke-accessor", accessor=accessor)
    except (VaultFailing, VaultPathMissing):
        if any(name == accessor for name in names(calls, "auth/token/accessors")):
            raise
