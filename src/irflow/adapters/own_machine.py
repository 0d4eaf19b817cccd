"""Which hosts of the inventory irflow itself runs on or needs, so that it never cuts itself off unasked."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import psutil

from irflow.core.inventory import Host, Inventory


def mark_own(inventory: Inventory, urls: Iterable[str]) -> Inventory:
    """The inventory with `own` set on every host that is this machine, or the host of a service at one of the URLs.

    Hosts in a network namespace of their own are told apart by it: their addresses may be this machine's too.
    """
    mine = _of_this_machine() | {_canonical(name) for name in map(_host_of, urls) if name}
    hosts = {
        name: host.model_copy(update={"own": True}) if not host.own and _is_one(host, mine) else host
        for name, host in inventory.hosts.items()
    }
    return inventory if hosts == inventory.hosts else Inventory(hosts=hosts, caps=inventory.caps)


def _is_one(host: Host, mine: set[str]) -> bool:
    address = _canonical(host.address)
    return host.netns is None and (address in mine or address.startswith("127.") or address == "::1")


def _of_this_machine() -> set[str]:
    addresses = (one.address.partition("%")[0] for card in psutil.net_if_addrs().values() for one in card)
    return {_canonical(one) for one in addresses} | {"localhost", socket.gethostname().lower()}


def _host_of(url: str) -> str | None:
    """The host that a URL names; None for a file or a socket."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text.lower()
