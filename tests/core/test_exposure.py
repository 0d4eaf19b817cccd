"""What an incident may have leaked is chosen by when a value was made and by who has it; what nobody knows counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from irflow.core.errors import UsageError
from irflow.core.exposure import exposed, moment_of
from irflow.core.inventory import Host, Inventory
from irflow.core.secret_inventory import ManagedSecret

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTS = Inventory(
    hosts={
        name: Host(name=name, address=address, key="file:keys/x")
        for name, address in (("web-1", "10.0.0.1"), ("web-2", "10.0.0.2"))
    }
)


def secret(name: str, *, host: str = "", dependants: tuple[str, ...] = ()) -> ManagedSecret:
    target = {"kind": "document", **({"host": host} if host else {})}
    return ManagedSecret(name=name, reference=f"vault:kv/{name}#x", target=target, dependants=dependants)


def test_a_value_made_after_the_leak_is_safe_and_one_of_unknown_age_is_not() -> None:
    secrets = [secret("old"), secret("new"), secret("unknown"), secret("unread")]
    changed = {"old": NOW - timedelta(days=2), "new": NOW, "unknown": None}
    found = exposed(secrets, changed, since=NOW - timedelta(days=1), hosts=(), inventory=HOSTS)
    assert found == ("old", "unknown", "unread")


def test_a_value_made_at_the_very_moment_counts_as_leaked() -> None:
    assert exposed([secret("x")], {"x": NOW}, since=NOW, hosts=(), inventory=HOSTS) == ("x",)


def test_of_a_host_are_the_secrets_that_it_asks_for_and_those_that_it_uses() -> None:
    secrets = [secret("asked", host="web-1"), secret("used", dependants=("web-1", "shop")),
               secret("other", host="web-2"),
               secret("by-address", host="10.0.0.1"), secret("nobody")]  # fmt: skip
    assert exposed(secrets, {}, since=None, hosts=("web-1",), inventory=HOSTS) == ("asked", "used", "by-address")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("8h", NOW - timedelta(hours=8)), ("2026-02-28T12:00:00Z", NOW - timedelta(days=1)),
        ("2026-03-01T13:00:00+02:00", NOW - timedelta(hours=1)),
    ],
)  # fmt: skip
def test_a_time_is_one_with_a_zone_or_how_long_ago(text: str, moment: datetime) -> None:
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize("text", ["yesterday", "2026-02-28T12:00:00", "-1h", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        moment_of(text, NOW)
