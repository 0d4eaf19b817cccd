"""Whether an alert belongs to an incident that is open, and what it may change there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from irflow.core.alert import Alert
from irflow.core.incident import TARGETS, Incident
from irflow.core.inventory import Inventory
from irflow.core.playbook import Playbook, choose
from irflow.core.severity import Severity, worse
from irflow.intake.targets import usable_accounts, usable_addresses, usable_hashes, usable_secrets


class Fit(Enum):
    """ACT: its hosts and severity become the incident's. TELL: it is recorded there and changes nothing."""

    ACT = "act"
    TELL = "tell"


@dataclass(frozen=True)
class Sighting:
    """An alert and what it would lead to by itself. hosts: inventory names; the other targets: canonical."""

    alert: Alert
    hosts: tuple[str, ...]
    unknown: tuple[str, ...]
    addresses: tuple[str, ...]
    accounts: tuple[str, ...]
    hashes: tuple[str, ...]
    secrets: tuple[str, ...]
    playbook: str | None
    drill: bool

    def new_to(self, incident: Incident) -> dict[str, tuple[str, ...]]:
        """The targets that an incident does not have yet, by kind; kinds with none are left out."""
        found = {kind: [one for one in getattr(self, kind) if one not in getattr(incident, kind)] for kind in TARGETS}
        return {kind: tuple(new) for kind, new in found.items() if new}

    @property
    def group(self) -> tuple[str, Severity]:
        """Alerts of one request in the same group open one incident."""
        return self.alert.type, self.alert.severity


def sight(alert: Alert, inventory: Inventory, playbooks: tuple[Playbook, ...], *, drill: bool) -> Sighting:
    """Look an alert's names up."""
    hosts, unknown = inventory.resolve(alert.hosts)
    playbook = choose(playbooks, alert.type, alert.severity)
    return Sighting(
        alert, hosts, unknown, usable_addresses(alert.addresses), usable_accounts(alert.accounts),
        usable_hashes(alert.hashes), usable_secrets(alert.secrets), playbook.playbook if playbook else None, drill,
    )  # fmt: skip


def fit(incident: Incident, seen: Sighting) -> Fit | None:
    """How an alert about the same thing fits an open incident; None: it must open its own.

    Joining never gives an alert more power than it has alone, nor less: it acts on the incident only where it leads
    to the same playbook with at least the same severity (else hosts of a `high` alert could be cut without the person
    whom only a `critical` one spares). And no alert is swallowed: one that would lead to another playbook, or that
    names targets which it may not add, opens its own incident. Trust must match, and drills stay among themselves.
    """
    if incident.trust is not seen.alert.trust or incident.drill != seen.drill:
        return None
    if seen.playbook == incident.playbook and not is_worse(incident.severity, seen.alert.severity):
        return Fit.ACT
    if set(seen.hosts) - set(incident.hosts):
        return None
    if seen.playbook is None or (seen.playbook == incident.playbook and not seen.new_to(incident)):
        return Fit.TELL
    return None


def is_worse(one: Severity, other: Severity) -> bool:
    """Whether one severity is more urgent than another."""
    return one is not other and worse(one, other) is one
