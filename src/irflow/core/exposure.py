"""Which secrets an incident may have leaked: by when their values were made, and by the hosts that have them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

from irflow.core.errors import UsageError
from irflow.core.inventory import Inventory
from irflow.core.model import parse_duration
from irflow.core.secret_inventory import ManagedSecret


def exposed(
    secrets: Iterable[ManagedSecret],
    changed: Mapping[str, datetime | None],
    *,
    since: datetime | None,
    hosts: Collection[str],
    inventory: Inventory,
) -> tuple[str, ...]:
    """The names of those whose live value somebody else may know.

    changed: when each live value was made; None, or no entry, where nobody knows, and then it counts as old.
    since: values made later are safe; None takes all. hosts: only secrets that one of these hosts asks for or uses, by
    inventory name; none takes all.
    """
    found = []
    for one in secrets:
        made = changed.get(one.name)
        if since is not None and made is not None and made > since:
            continue
        if hosts and not _hosts(one, inventory) & set(hosts):
            continue
        found.append(one.name)
    return tuple(found)


def moment_of(text: str, now: datetime) -> datetime:
    """Read a time: RFC 3339 with a zone, or how long ago it was (`90m`, `8h`, `2d`). Raises UsageError."""
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise UsageError(f"not a time: {text!r}", hint="Write 2026-01-31T12:00:00Z, or how long ago: 8h")
    return found.astimezone(UTC)


def _hosts(one: ManagedSecret, inventory: Inventory) -> set[str]:
    """The hosts of the inventory that ask for a secret, or that use it."""
    targets = one.target.get("hosts") or ([one.target["host"]] if "host" in one.target else [])
    named = tuple(text for text in (*targets, *one.dependants) if isinstance(text, str))
    return set(inventory.resolve(named)[0])
