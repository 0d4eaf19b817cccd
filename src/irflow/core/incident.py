"""An incident: one thing that happened, with its targets. What was done about it is in its journal."""

from __future__ import annotations

from datetime import datetime

from irflow.core.alert import Alert, Trust
from irflow.core.mode import Mode
from irflow.core.model import Json, Noun
from irflow.core.severity import Severity

SYSTEM = "system"
"""The pseudo-incident whose journal records what concerns the whole installation (halt, resume)."""


TARGETS = ("hosts", "addresses", "accounts", "hashes", "secrets")
"""What an incident is about; alerts and people may add to each while it is open."""


class Incident(Noun):
    """The facts an incident was opened with, and what people added since.

    id: ULID. number: what people say, `IR-2026-0001`; given by the store.
    hosts: inventory names only. unknown_hosts: names an alert gave that the inventory does not have; never acted on.
    addresses: canonical IP addresses or networks. hashes: SHA-256 of malicious files, in lower case.
    secrets: names of secrets.yaml that are in the wrong hands, never values.
    detected_at: the start of all clocks. drill: kept out of metrics. mode: of the plans of its phases.
    """

    id: str
    number: str = ""
    type: str
    severity: Severity
    trust: Trust
    title: str
    hosts: tuple[str, ...] = ()
    unknown_hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    playbook: str | None = None
    detected_at: datetime
    drill: bool = False
    mode: Mode = Mode.AUTOMATIC

    def to_data(self) -> dict[str, Json]:
        """The incident as the data of its `incident.opened` event."""
        data: dict[str, Json] = self.model_dump(mode="json")
        return data


def correlates(incident: Incident, alert: Alert, hosts: tuple[str, ...]) -> bool:
    """Whether an alert belongs to an open incident: the same type, or either a sign of compromise, on a shared host.

    hosts: the alert's hosts resolved against the inventory. A verified incident never takes on unverified
    alerts' hosts as its own, so trust must match.
    """
    return incident.trust == alert.trust and bool(set(hosts) & set(incident.hosts))
