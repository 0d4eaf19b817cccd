"""What alerts name besides hosts, as far as something could ever be done about it; the rest stays in the alert."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

# A wider network in an alert is a mistake or an attempt to make irflow cut everything off; a person may still add it.
_NARROWEST = {4: 24, 6: 48}


def usable_addresses(texts: Iterable[str]) -> tuple[str, ...]:
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


_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
"""Account names as useradd(8) takes them: at most 32 characters, none that could read as an option."""
_SECRET = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Names as secrets.yaml takes them (core.secret_inventory)."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


def usable_accounts(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that can be account names, without repeats, in order; `root` is one, so what acts on it must refuse."""
    return tuple(dict.fromkeys(one for one in texts if _ACCOUNT.fullmatch(one)))


def usable_hashes(texts: Iterable[str]) -> tuple[str, ...]:
    """The SHA-256 hashes among texts, in lower case, without repeats, in order; `sha256:` before one is let pass."""
    hashes = (one.strip().lower().removeprefix("sha256:") for one in texts)
    return tuple(dict.fromkeys(one for one in hashes if _SHA256.fullmatch(one)))


def usable_secrets(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that can be names of secrets.yaml, without repeats, in order."""
    return tuple(dict.fromkeys(one for one in texts if _SECRET.fullmatch(one)))
