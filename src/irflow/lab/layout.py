"""Names, addresses and accounts of a lab: what is where, decided once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

MARKER = "IRFLOW_LAB"  # environment variable that every process of a lab carries
MOST_HOSTS = 1000  # a Linux bridge takes 1024 ports

GATEWAY = "10.77.0.1"
RESPONDER = ("10.77.0.10", "fd77::10")
ATTACKER = ("10.77.0.66", "fd77::66")
VISITOR = ("10.77.0.99", "fd77::99")
VANTAGES = {"responder": ("mgmt", RESPONDER), "attacker": ("atk", ATTACKER), "visitor": ("vis", VISITOR)}
MACHINE = "machine"  # where the lab was made: the network in which a stack beside it listens

# Accounts of a lab host, with the key that opens each: `ir` is the responder without root, `mallory` the stolen one,
# and `deploy` one whose key the attacker may have copied.
ACCOUNTS = (
    ("alice", 1001, "responder"),
    ("bob", 1002, "responder"),
    ("mallory", 1003, "attacker"),
    ("deploy", 1004, "deploy"),
)
SUDOER = ("ir", 1100, "responder")


@dataclass(frozen=True)
class Layout:
    """Where the parts of one lab live.

    run_dir: the directory that holds everything. inside: whether the lab runs within a user namespace.
    """

    run_dir: Path
    inside: bool = False

    @property
    def id(self) -> str:
        """Eight hex digits that depend on `run_dir` alone, so that a stale lab is found without its state file."""
        return hashlib.sha256(str(self.run_dir.resolve()).encode()).hexdigest()[:8]

    @property
    def state(self) -> Path:
        """The state file."""
        return self.run_dir / "lab.json"

    @property
    def files(self) -> Path:
        """Where the lab's own tmpfs is mounted."""
        return self.run_dir / "fs"

    @property
    def base(self) -> Path:
        """The lower layer of `/` that all hosts share."""
        return self.files / "base"

    @property
    def base_usr(self) -> Path:
        """The layer between the machine's `/usr` and a host's changes to it."""
        return self.files / "base-usr"

    @property
    def keys(self) -> Path:
        """The directory of the private keys made for this lab."""
        return self.files / "keys"

    def host(self, part: str, name: str) -> Path:
        """A host's directory for `part`: own (its identity), up and up-usr (its changes), wk, wk-usr, mnt."""
        return self.files / part / name

    def netns(self, part: str) -> Path:
        """The network namespace `part`: net (the switch), mgmt (responder), atk (attacker) or vis (visitor)."""
        return Path("/run/netns") / f"irl-{self.id}-{part}"


def host_name(index: int) -> str:
    """Name of the host with this index (from 0)."""
    return f"web-{index + 1}"


def host_address(index: int) -> str:
    """IPv4 address of the host with this index."""
    return f"10.77.{1 + index // 200}.{1 + index % 200}"


def host_address6(index: int) -> str:
    """IPv6 address of the host with this index."""
    return f"fd77::1:{index + 1:x}"
