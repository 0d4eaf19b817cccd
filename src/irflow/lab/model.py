"""The nouns of the lab."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from irflow.core.errors import IrflowError


class LabError(IrflowError):
    """The lab could not be made, found or used."""


class Level(enum.Enum):
    """What a lab on this machine can prove, best first.

    root: real hosts. userns: real hosts of an ordinary user. loopback: real sshd, one account, no firewall.
    fake: no hosts at all.
    """

    ROOT = "root"
    USERNS = "userns"
    LOOPBACK = "loopback"
    FAKE = "fake"

    @property
    def proves_packets(self) -> bool:
        """Whether an isolation on this level is proved by packets."""
        return self in (Level.ROOT, Level.USERNS)


@dataclass(frozen=True)
class LabHost:
    """One host of a lab.

    address, address6: where it listens (address6 is empty on the loopback level). host_key: `TYPE BASE64`.
    pid: its process 1, as the machine numbers it. started: that process's start time in clock ticks since boot.
    """

    name: str
    index: int
    address: str
    address6: str
    port: int
    host_key: str
    pid: int
    started: int


@dataclass(frozen=True)
class State:
    """What the state file says: enough to use a lab again, or to see that making it did not end.

    ready: whether every host answered. keeper: process that holds the lab's user namespace open, as the machine numbers
    it, and its start time; 0 on the other levels.
    """

    id: str
    name: str
    level: Level
    ready: bool
    hosts: tuple[LabHost, ...] = ()
    keeper: int = 0
    keeper_started: int = 0

    def to_json(self) -> dict[str, object]:
        """The state as plain JSON values."""
        return {**asdict(self), "level": self.level.value, "hosts": [asdict(host) for host in self.hosts]}
