"""Kinds of sources: how a request's body is read. irflow's own, and those that other packages add."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from irflow.core.errors import ConfigurationError
from irflow.intake.parcel import Parcel
from irflow.intake.signature import ReadKey, Verify, signing_key, verify_standard
from irflow.intake.source import Source

GROUP = "irflow.intake"
OWN = ("irflow.intake.alertmanager", "irflow.intake.standard")


@dataclass(frozen=True)
class Kind:
    """One kind. read: body to alerts, pure; raises NotUnderstood. verify, key: its signatures, for `auth: hmac`."""

    name: str
    read: Callable[[Source, bytes], Parcel]
    verify: Verify = verify_standard
    key: ReadKey = signing_key


def load_kinds(added: Iterable[EntryPoint] | None = None) -> dict[str, Kind]:
    """All kinds by name. added: entry points, each a module with a `KIND`; by default those installed.

    Raises ConfigurationError naming an entry point that cannot be loaded, is no kind, or uses a name again.
    """
    kinds: dict[str, Kind] = {}
    for module in OWN:
        kind = _kind(import_module(module), module)
        kinds[kind.name] = kind
    for entry in entry_points(group=GROUP) if added is None else added:
        where = f"entry point {entry.name} = {entry.value} of {GROUP}"
        try:
            loaded = entry.load()
        except Exception as error:  # another package's code may fail in any way; it must be named
            raise ConfigurationError(
                f"cannot be loaded: {type(error).__name__}: {error}", where=where, hint="Mend or remove that package"
            ) from error
        kind = _kind(loaded, where)
        if kind.name in kinds:
            raise ConfigurationError(
                f"there is a kind {kind.name!r} already", where=where, hint="Remove one of the two packages"
            )
        kinds[kind.name] = kind
    return kinds


def _kind(loaded: object, where: str) -> Kind:
    kind = loaded if isinstance(loaded, Kind) else getattr(loaded, "KIND", None)
    if not isinstance(kind, Kind):
        raise ConfigurationError(
            "is not a module with a KIND", where=where, hint="KIND must be an irflow.intake.kind.Kind"
        )
    return kind
