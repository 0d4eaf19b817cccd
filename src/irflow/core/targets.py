"""Hosts, addresses and accounts that a person adds to an incident while it is under way."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from irflow.core.approvals import Operator
from irflow.core.errors import Refused
from irflow.core.guards import refuse_address
from irflow.core.identity import Deed, require
from irflow.core.inventory import Inventory
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.ports import Transaction
from irflow.core.status import fold

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
"""As useradd(8) takes them; none that could read as an option."""


@dataclass(frozen=True)
class Targets:
    """What is to be added, in canonical form: inventory names, addresses or networks, account names."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Json]:
        """As it stands in the event."""
        return {"hosts": list(self.hosts), "addresses": list(self.addresses), "accounts": list(self.accounts)}

    def __bool__(self) -> bool:
        return bool(self.hosts or self.addresses or self.accounts)


def checked(
    inventory: Inventory, *, hosts: Iterable[str] = (), addresses: Iterable[str] = (), accounts: Iterable[str] = ()
) -> Targets:
    """What a person named, in canonical form. Raises Refused with every mistake at once; then nothing is added."""
    known, unknown = inventory.resolve(tuple(hosts))
    wrong = [f"the inventory has no host {one[:100]!r}" for one in unknown]
    networks: list[str] = []
    for text in addresses:
        try:
            networks.append(_address(text))
        except ValueError:
            wrong.append(f"{text[:100]!r} is no address or network")
            continue
        refused = refuse_address(inventory, networks[-1])
        wrong += [refused] if refused else []
    names = tuple(dict.fromkeys(accounts))
    wrong += [f"{one[:100]!r} is no account name" for one in names if not _ACCOUNT.fullmatch(one)]
    if wrong:
        raise Refused("; ".join(wrong), hint="Nothing was added. Hosts are added with their key: irflow hosts enrol")
    return Targets(known, tuple(dict.fromkeys(networks)), names)


def _address(text: str) -> str:
    """Canonical; IPv4 inside IPv6 is IPv4. Raises ValueError, also for what stands for no other machine."""
    network = ipaddress.ip_network(text.strip(), strict=False)
    first = network.network_address
    if first.is_unspecified or first.is_loopback or first.is_multicast:
        raise ValueError(text)
    if network.num_addresses > 1:
        return str(network)
    mapped = first.ipv4_mapped if isinstance(first, ipaddress.IPv6Address) else None
    return _address(str(mapped)) if mapped else str(first)


def add_targets(
    tx: Transaction, incident: str, operator: Operator, targets: Targets, reason: str = "", *, method: str = ""
) -> Targets:
    """Add what the incident does not have yet; plans become outdated, and approvals of them are void.

    targets: as `checked` gave them. Returns what was new. Raises Refused when nothing is, or the incident is closed.
    """
    require(operator, Deed.ADD_TARGETS)
    status = fold(tx.events(incident))
    one = status.incident
    if not status.open:
        raise Refused(f"{one.number} is closed", hint="Open a new incident: irflow respond --alert FILE")
    new = Targets(
        tuple(name for name in targets.hosts if name not in one.hosts),
        tuple(text for text in targets.addresses if text not in one.addresses),
        tuple(name for name in targets.accounts if name not in one.accounts),
    )
    if not new:
        raise Refused(f"{one.number} has all of these already", hint=f"See irflow incidents show {one.number}")
    data: dict[str, Json] = {**new.to_data(), "operator": operator.name, "reason": reason}
    data |= {"method": method} if method else {}
    tx.append(incident, Draft(Kind.HOST_ADDED, f"operator:{operator.name}", data))
    tx.index_incident(fold(tx.events(incident)).incident, closed=False)
    tx.enqueue("respond", {"incident": incident})
    return new
