"""A lab: hosts, a responder and an attacker on one machine; made, used and removed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from irflow.core.errors import UsageError
from irflow.lab import changes, command, fabric, ladder, loopback, real, state, sweep
from irflow.lab.layout import ATTACKER, MACHINE, MARKER, MOST_HOSTS, RESPONDER, VANTAGES, Layout
from irflow.lab.model import LabError, LabHost, Level, State


@dataclass(frozen=True)
class Lab:
    """A running lab. Use `Lab.up` or `Lab.load`; as a context manager it goes down at the end of the block."""

    layout: Layout
    state: State

    @classmethod
    def up(cls, count: int, run_dir: Path, *, name: str = "lab", level: Level | None = None) -> Lab:
        """Make a lab of `count` hosts in run_dir; what a stale lab left there is removed first.

        level: None takes the best one that this machine reaches. Raises UsageError (count), ServiceMissing (level not
        reachable, with the reasons), LabError (a lab runs here already; a host did not start). After an error nothing
        is left.
        """
        if not 1 <= count <= MOST_HOSTS:
            raise UsageError(f"a lab has 1 to {MOST_HOSTS} hosts, not {count}")
        wanted = level or ladder.detect()
        ladder.require(wanted)
        layout = Layout(run_dir.absolute(), inside=wanted is Level.USERNS)
        maker = loopback if wanted is Level.LOOPBACK else real
        with state.lock(layout.run_dir), _host_umask():
            _refuse_live(layout)
            sweep.remove(layout)
            try:
                return cls(layout, maker.start(layout, name, wanted, count))
            except subprocess.CalledProcessError as error:
                sweep.remove(layout)
                raise LabError(f"a program failed: {error}", where=str(run_dir)) from error
            except BaseException:  # also Ctrl-C: a half-made lab must not stay
                sweep.remove(layout)
                raise

    @classmethod
    def load(cls, run_dir: Path) -> Lab:
        """The lab that runs in run_dir. Raises LabError when there is none, or when hosts of it are gone."""
        layout = Layout(run_dir.absolute())
        found = state.read(layout)
        dead = [host.name for host in found.hosts if not sweep.alive(host.pid, host.started)]
        if not found.ready or dead:
            what = f"hosts are gone: {', '.join(dead)}" if dead else "making this lab did not end"
            raise LabError(what, where=str(run_dir), hint="Remove it: irflow lab down")
        return cls(Layout(layout.run_dir, inside=found.level is Level.USERNS), found)

    def down(self) -> None:
        """Remove the lab and everything that ran in it. Twice is fine. Raises LabError when something stays."""
        down(self.layout.run_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def level(self) -> Level:
        """What this lab can prove."""
        return self.state.level

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        """The hosts, `web-1` first."""
        return self.state.hosts

    def host(self, name: str) -> LabHost:
        """The host of that name. Raises UsageError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise UsageError(f"the lab has no host {name!r}: it has {', '.join(host.name for host in self.hosts)}")

    @property
    def responder_key(self) -> Path:
        """The responder's private key: opens root and `ir` (who may sudo), also alice and bob."""
        return self.layout.keys / "responder"

    @property
    def attacker_key(self) -> Path:
        """The attacker's private key: opens mallory."""
        return self.layout.keys / "attacker"

    @property
    def deploy_key(self) -> Path:
        """The private key of deploy, of which an attacker may have a copy."""
        return self.layout.keys / "deploy"

    @property
    def user_ca(self) -> Path | None:
        """The private key whose user certificates the hosts accept; None on the loopback level."""
        return None if self.level is Level.LOOPBACK else self.layout.keys / "user_ca"

    @property
    def known_hosts(self) -> Path:
        """All host keys, for OpenSSH clients."""
        return self.layout.files / "known_hosts"

    @property
    def responder_user(self) -> str:
        """The account the responder logs in with."""
        return loopback.account() if self.level is Level.LOOPBACK else "root"

    @property
    def attacker_user(self) -> str:
        """The account the attacker has stolen."""
        return loopback.account() if self.level is Level.LOOPBACK else "mallory"

    @property
    def management_addresses(self) -> tuple[str, ...]:
        """Where the responder connects from, v4 and v6."""
        return ("127.0.0.1",) if self.level is Level.LOOPBACK else RESPONDER

    @property
    def attacker_addresses(self) -> tuple[str, ...]:
        """Where the attacker connects from and listens, v4 and v6."""
        return ("127.0.0.1",) if self.level is Level.LOOPBACK else ATTACKER

    def netns(self, vantage: str) -> Path | None:
        """The network namespace of a vantage point; None for `machine` and on the loopback level. Raises UsageError."""
        if vantage == MACHINE:
            return None
        if vantage not in VANTAGES:
            raise UsageError(f"no vantage point {vantage!r}: there are {', '.join((*VANTAGES, MACHINE))}")
        return None if self.level is Level.LOOPBACK else self.layout.netns(VANTAGES[vantage][0])

    def exec(
        self, host: LabHost, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run argv as root on a host, not through SSH. Raises LabError (not this level), DeadlineExceeded."""
        self._only_real("running a command on a host past SSH")
        if not sweep.alive(host.pid, host.started):
            raise LabError("the host is gone", where=host.name)
        wrapped = [command.program("nsenter"), "-t", str(host.pid), "-m", "-u", "-i", "-n", "-p", "--", *argv]
        environment = {**command.HOST_ENVIRONMENT, MARKER: self.layout.id}
        return command.run(wrapped, stdin=stdin, timeout_s=timeout_s, where=host.name, environment=environment)

    def run_from(
        self, vantage: str, argv: Sequence[str], *, stdin: bytes | None = None, timeout_s: float = 30.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run argv in a vantage point's network. Raises UsageError, DeadlineExceeded."""
        wrapped = self._at(vantage, argv)
        return command.run(wrapped, stdin=stdin, timeout_s=timeout_s, where=vantage, environment=self._environment())

    def popen_from(self, vantage: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start argv in a vantage point's network, with pipes; it dies with the lab. Raises UsageError."""
        return subprocess.Popen(
            self._at(vantage, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=self._environment(),
        )

    def diff(self, host: LabHost, *, ignore: Sequence[str] = changes.LOGIN_TRACES) -> list[str]:
        """Paths that differ from the state the host was born with, sorted. ignore: paths (and below) left out.

        By default logging in, which every look at a host does, does not count. Raises LabError (not this level).
        """
        self._only_real("seeing what changed on a host")
        return changes.changed(self.layout, host, ignore)

    def unplug(self, host: LabHost) -> None:
        """Pull the host's network cable. Raises LabError."""
        self._only_real("pulling a cable")
        fabric.set_cable(self.layout, host.index, up=False)

    def plug(self, host: LabHost) -> None:
        """Put the host's network cable back. Raises LabError."""
        self._only_real("putting a cable back")
        fabric.set_cable(self.layout, host.index, up=True)

    def _at(self, vantage: str, argv: Sequence[str]) -> list[str]:
        namespace = self.netns(vantage)
        return list(argv) if namespace is None else [command.program("nsenter"), f"--net={namespace}", "--", *argv]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, MARKER: self.layout.id}

    def _only_real(self, what: str) -> None:
        if not self.level.proves_packets:
            raise LabError(f"{what} needs a lab of level root or userns, this one is {self.level.value}")


def down(run_dir: Path) -> None:
    """Remove the lab in run_dir, however its maker ended; no lab is no error. Raises LabError when something stays."""
    if not run_dir.is_dir():
        return
    layout = Layout(run_dir.absolute())
    with state.lock(layout.run_dir, patience_s=5.0):
        sweep.remove(layout)
        shutil.rmtree(layout.run_dir)


@contextmanager
def _host_umask() -> Iterator[None]:
    """What the hosts' accounts must read is readable, whatever the caller's umask is."""
    before = os.umask(command.HOST_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def _refuse_live(layout: Layout) -> None:
    if not layout.state.exists():
        return
    try:
        Lab.load(layout.run_dir)
    except LabError:
        return  # stale: it is swept
    raise LabError("a lab runs here already", where=str(layout.run_dir), hint="Remove it first: irflow lab down")
