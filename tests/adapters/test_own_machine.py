"""irflow knows which hosts it runs on and needs."""

from __future__ import annotations

import socket

import psutil
import pytest

from irflow.adapters.own_machine import mark_own
from irflow.core.inventory import Host, Inventory


def own(*urls: str, **host: str) -> bool:
    one = Host(name="a", key="file:keys/a", **{"address": "192.0.2.1", **host})
    return mark_own(Inventory(hosts={"a": one}), urls).hosts["a"].own


def _addresses() -> list[str]:
    cards = psutil.net_if_addrs().values()
    return [one.address for card in cards for one in card if one.family == socket.AF_INET]


def test_a_host_elsewhere_is_not_its_own() -> None:
    assert not own("sqlite:////var/lib/irflow/journal.db", "")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.5.0.1", "::1", "localhost", socket.gethostname(), *_addresses()])
def test_this_machine_is(address: str) -> None:
    assert own(address=address)


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://irflow@192.0.2.1/journal", "http://192.0.2.1:4200/api", "https://[2001:db8::1]/"]
)
def test_the_host_of_a_service_it_uses_is(url: str) -> None:
    assert own(url, address="2001:db8:0::1" if "[" in url else "192.0.2.1")


def test_a_host_in_another_network_namespace_is_not_this_machine_though_its_address_is() -> None:
    assert not own(address="127.0.0.1", netns="/run/netns/lab")
