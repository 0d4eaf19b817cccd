"""What all staged attacks share: sessions and beacons that end together, and root's hand on the hosts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from irflow.core.errors import DeadlineExceeded
from irflow.lab import command
from irflow.lab.beacon import Beacon
from irflow.lab.lab import Lab
from irflow.lab.model import LabError, LabHost, Level
from irflow.lab.session import Session


class Intruder(ABC):
    """An attack under way. As a context manager it ends the attacker's side of it; `clean` removes what it left."""

    def __init__(self, lab: Lab) -> None:
        """Break in. Raises LabError when that does not work; then the attacker's side has ended."""
        self.lab = lab
        self._closing: list[Session | Beacon] = []
        try:
            self._break_in()
        except BaseException:  # also Ctrl-C: the attacker's processes must not stay
            self.stop()
            raise

    @abstractmethod
    def _break_in(self) -> None:
        """Stage everything."""

    @abstractmethod
    def clean(self) -> None:
        """Take everything of the attacker off the hosts: the operator's fix. Twice is fine. Raises LabError."""

    def stop(self) -> None:
        """End the attacker's side: clients and listeners. Twice is fine."""
        for one in reversed(self._closing):
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _session(self, host: LabHost, login: Sequence[str] | None = None, remote: str = "/bin/sh") -> Session:
        session = Session(self.lab, host, login=login, remote=remote)
        self._closing.append(session)
        return session

    def _beacon(self, host: LabHost, session: Session) -> Beacon:
        beacon = Beacon(self.lab, host, session)
        self._closing.append(beacon)
        return beacon

    def _on_host(self, host: LabHost, script: str, *arguments: str, stdin: bytes | None = None) -> bytes:
        """Run a shell script as root (or as the one account of a loopback lab). Raises LabError when it fails."""
        return on_host(self.lab, host, script, *arguments, stdin=stdin)

    def _end_processes(self, host: LabHost, account: str) -> None:
        # A process may start another while it is being ended: again until none is left.
        self._on_host(host, 'while p=$(ps -u "$1" -o pid=); do kill -KILL $p 2>/dev/null || :; done', account)


def works(lab: Lab, login: Sequence[str], timeout_s: float, vantage: str = "attacker") -> bool:
    """Whether an OpenSSH command line logs in within timeout_s seconds."""
    try:
        return lab.run_from(vantage, [*login, "true"], timeout_s=timeout_s).returncode == 0
    except DeadlineExceeded:
        return False


def on_host(lab: Lab, host: LabHost, script: str, *arguments: str, stdin: bytes | None = None) -> bytes:
    """Run a shell script as root on a host; its output. Raises LabError when it fails."""
    argv = ["sh", "-euc", script, "sh", *arguments]
    if lab.level is Level.LOOPBACK:
        environment = command.HOST_ENVIRONMENT
        done = command.run(argv, stdin=stdin, timeout_s=20.0, where=host.name, environment=environment)
    else:
        done = lab.exec(host, argv, stdin=stdin, timeout_s=20.0)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise LabError(f"staging the attack failed: {reason}", where=host.name)
    return done.stdout
