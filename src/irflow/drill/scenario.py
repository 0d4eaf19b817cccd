"""What a drill scenario is: one file in scenarios/ with an attack, an alert about it, and what must hold afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from irflow.core.status import IncidentStatus
from irflow.drill.checks import Probe
from irflow.drill.scorecard import CheckScore
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost

if TYPE_CHECKING:
    from irflow.drill.estate import Estate

EVERY_PROFILE = frozenset({"snapshot", "volatile"})
DOCUMENTS = ("incident-report", "stakeholder-update", "post-incident-review")


@dataclass(frozen=True)
class Stage:
    """Where it plays. victims: the attacked hosts, in order. bystander: a host that nobody attacks or names.

    estate: where the scenario has one.
    """

    lab: Lab
    victims: tuple[LabHost, ...]
    bystander: LabHost
    estate: Estate | None = None


@dataclass(frozen=True)
class Alarm:
    """What the detection tool says: the fields of an alert (docs/alerts.md)."""

    type: str
    title: str
    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    severity: str = "critical"
    secrets: tuple[str, ...] = ()


class Attack(ABC):
    """A staged attack, as the drill sees it."""

    @abstractmethod
    def summary(self) -> str:
        """What was staged, in one line for people."""

    @abstractmethod
    def alarm(self) -> Alarm:
        """The alert that is sent."""

    @abstractmethod
    def contained(self) -> list[Probe]:
        """Asked before the alert is sent and again when containment is said to be done."""

    @abstractmethod
    def recovered(self) -> list[Probe]:
        """Asked before the alert and again when the incident is closed."""

    @abstractmethod
    def eradicate(self) -> None:
        """Remove what the attacker left, as a person would during recovery."""

    def traces(self) -> Mapping[str, tuple[str, str]]:
        """By host: (what it is, text) that the collected evidence must hold."""
        return {}

    def before_answer(self) -> Mapping[str, Callable[[], None]]:
        """What the operators do on the hosts before they answer a manual step, by step id."""
        return {"eradicate": self.eradicate}

    def afterwards(self, status: IncidentStatus) -> list[CheckScore]:
        """What only the whole of it shows; asked once, when the incident is closed."""
        return []


class Scenario(ABC):
    """One scenario. A file of scenarios/ holds one, as SCENARIO.

    name: as people type it. title: one line. alert: the type and severity whose playbook has to answer.
    least_hosts: how many must be attacked. containing: names of the actions that contain it; when all their steps of
    the containment phase are done it counts as contained. on_hosts: whether they are done host by host. profiles:
    evidence that every host must have given. documents: what must have been written at the end. has_estate: whether
    servers with secrets belong to it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    alert: ClassVar[tuple[str, str]]
    containing: ClassVar[frozenset[str]]
    least_hosts: ClassVar[int] = 1
    profiles: ClassVar[frozenset[str]] = EVERY_PROFILE
    documents: ClassVar[tuple[str, ...]] = DOCUMENTS
    on_hosts: ClassVar[bool] = True
    has_estate: ClassVar[bool] = False

    def prepare(self, stage: Stage) -> None:  # noqa: B027 - most hosts need no weakness added
        """Make the hosts what they were before the attack, weaknesses included: the baseline is taken after this."""

    @abstractmethod
    def attack(self, stage: Stage, cleanup: ExitStack) -> Attack:
        """Break in. What has to end later is put on `cleanup`. Raises LabError."""
