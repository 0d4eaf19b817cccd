"""Addresses that alerts name, as far as something could ever be done about them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

# A wider network in an alert is a mistake or an attempt to make irflow cut everything off; a person may still add it.
_NARROWEST = {4: 24, 6: 48}


def usable(texts: Iterable[str]) -> tuple[str, ...]:
    """The canonical addresses and networks among texts, without repeats, in order.

    Left out (they stay in the alert as sent): what is no address, zones (`fe80::1%eth0`), unspecified, loopback and
    multicast addresses, networks wider than /24 or /48. IPv4 inside IPv6 becomes IPv4.
    """
    return tuple(dict.fromkeys(one for one in map(_canonical, texts) if one))


def _canonical(text: str) -> str:
    if "%" in text:
        return ""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return ""
    first = network.network_address
    if first.is_unspecified or first.is_loopback or first.is_multicast or network.prefixlen < _NARROWEST[first.version]:
        return ""
    if network.num_addresses > 1:
        return str(network)
    mapped = first.ipv4_mapped if isinstance(first, ipaddress.IPv6Address) else None
    return _canonical(str(mapped)) if mapped else str(first)
