"""The guards of DESIGN rule 9: when a person must agree, when two must, and what is never done at all."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from irflow.core.action import Action, Registry
from irflow.core.alert import Trust
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.playbook import ApprovalRule
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus

_RANKS = tuple(reversed(list(Severity)))  # low to critical


@dataclass
class Touched:
    """The hosts that an incident changes, by the order in which they came; the same within each group."""

    hosts: dict[str, int] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)

    def place(self, host: Host) -> int:
        """How many hosts came before this one; taken note of."""
        return self.hosts.setdefault(host.name, len(self.hosts))

    def place_in(self, group: str, host: Host) -> int:
        """How many hosts of a group came before this one; taken note of."""
        inside = self.groups.setdefault(group, {})
        return inside.setdefault(host.name, len(inside))

    @classmethod
    def of(cls, inventory: Inventory, names: Iterable[str]) -> Touched:
        """Hosts touched so far, in order; those that the inventory does not have any more count too."""
        touched = cls()
        for name in names:
            host = inventory.hosts.get(name)
            touched.hosts.setdefault(name, len(touched.hosts))
            for group in host.groups if host else ():
                touched.place_in(group, host)  # type: ignore[arg-type]
        return touched


def touched_by(status: IncidentStatus, actions: Registry) -> tuple[str, ...]:
    """The hosts that an incident has changed, or may have, in the order of the first change."""
    begun = [
        (step.started_at, step.target)
        for step in status.steps.values()
        if step.target and step.attempts and step.started_at and _mutates(actions, step.outcome.get("action"))
    ]
    return tuple(dict.fromkeys(target for _, target in sorted(begun)))


def _mutates(actions: Registry, name: object) -> bool:
    return not isinstance(name, str) or name not in actions.names() or actions.get(name).mutates


def people_needed(
    inventory: Inventory,
    incident: Incident,
    rule: ApprovalRule,
    action: Action[Any],
    host: Host | None,
    touched: Touched,
) -> tuple[int, tuple[str, ...]]:
    """How many people must agree to a step, and why. rule: who is asked for the step at all, and what waives that."""
    reasons: list[str] = []
    if rule.role and not _waived(incident, rule, host):
        reasons.append(f"the {rule.role} is asked for this step")
    if action.needs_person:
        reasons.append(f"{action.name} always needs a person")
    if host is not None and incident.trust is Trust.UNVERIFIED:
        reasons.append("the alert's sender is not verified")
    if host is None or not action.mutates:
        return (1 if reasons else 0), tuple(reasons)
    reasons += _caps(inventory, host, touched)
    if host.protected:
        reasons.append(f"{host.name} is protected")
    two = _second_person(inventory, rule, host, touched)
    return (2 if two else 1 if reasons else 0), (*reasons, *two)


def _waived(incident: Incident, rule: ApprovalRule, host: Host | None) -> bool:
    """Whether the incident is grave enough to go on unasked; never for a host that matters more than the incident."""
    return incident.severity in rule.waived_for and (host is None or not outranks(host, incident))


def outranks(host: Host, incident: Incident) -> bool:
    """Whether a host matters more than the incident."""
    return _RANKS.index(host.criticality) > _RANKS.index(incident.severity)


def _caps(inventory: Inventory, host: Host, touched: Touched) -> list[str]:
    """Caps apply to every host that is touched after the cap was reached."""
    reasons = []
    if touched.place(host) >= inventory.caps.hosts:
        reasons.append(f"over the cap of {inventory.caps.hosts} hosts per incident")
    for group in host.groups:
        most = math.ceil(inventory.group_sizes[group] * inventory.caps.group_percent / 100)
        if touched.place_in(group, host) >= most:
            reasons.append(f"over the cap of {inventory.caps.group_percent} % of group {group}")
    return reasons


def _second_person(inventory: Inventory, rule: ApprovalRule, host: Host, touched: Touched) -> tuple[str, ...]:
    if host.name in inventory.own:
        return (f"irflow itself needs {host.name}: two people must agree",)
    if rule.two_people_above is not None and touched.place(host) >= rule.two_people_above:
        return (f"above {rule.two_people_above} hosts two people must agree",)
    return ()


def refuse_address(inventory: Inventory, text: str) -> str | None:
    """Why a network must never be blocked; None when it may be. text: a canonical network."""
    network = ipaddress.ip_network(text, strict=False)
    if network.prefixlen == 0:
        return f"{text} is everything"
    for host in inventory.hosts.values():
        for one in host.management:
            if _overlap(network, ipaddress.ip_network(one)):
                return f"{text} is inside irflow's own management network {one} of {host.name}"
        if host.name in inventory.own and _is_address(host.address, network):
            return f"{text} is {host.name}, which irflow itself needs"
    return None


def _overlap(
    one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return one.version == other.version and one.overlaps(other)


def _is_address(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return _overlap(ipaddress.ip_network(text), network)
    except ValueError:  # a DNS name: what it means on the target is not known here
        return False
