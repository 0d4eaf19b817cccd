"""What a drill looks at from outside: sessions, beacons and logins of the attacker, and everyone else's way in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from irflow.drill.scorecard import CheckScore
from irflow.lab.beacon import Beacon
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.vantage import ssh_greeting

BEACON_QUIET_S = 1.0
"""Five missed beats of 0.2 s count as silence."""

ENDS = (True, False)
STAYS = (True, True)
NEVER = (False, False)


@dataclass(frozen=True)
class Probe:
    """One question asked before and after.

    words: the answers yes and no, for people. wanted: the answers that pass, (before, after). host: whom it is about.
    """

    name: str
    ask: Callable[[], bool]
    words: tuple[str, str]
    wanted: tuple[bool, bool]
    host: str = ""

    def word(self, answer: bool) -> str:
        """The answer for people."""
        return self.words[0] if answer else self.words[1]


def alive(host: LabHost, what: str, echoes: Callable[[], bool], wanted: tuple[bool, bool] = ENDS) -> Probe:
    """Whether an open session still answers."""
    return Probe(f"{what} on {host.name}", echoes, ("alive", "dead"), wanted, host.name)


def heard(host: LabHost, beacon: Beacon, wanted: tuple[bool, bool] = ENDS) -> Probe:
    """Whether the attacker hears its beacon."""

    def listen() -> bool:
        return beacon.seen_since(time.monotonic(), BEACON_QUIET_S)

    return Probe(f"attacker's beacon from {host.name}", listen, ("heard", "silent"), wanted, host.name)


def possible(host: LabHost, what: str, login: Callable[[], bool], wanted: tuple[bool, bool] = ENDS) -> Probe:
    """Whether a new login works."""
    return Probe(f"{what} on {host.name}", login, ("possible", "impossible"), wanted, host.name)


def there(host: LabHost, what: str, look: Callable[[], bool], wanted: tuple[bool, bool] = ENDS) -> Probe:
    """Whether something that the attacker left is where it works."""
    return Probe(f"{what} on {host.name}", look, ("there", "gone"), wanted, host.name)


def reached(lab: Lab, host: LabHost, vantage: str, wanted: tuple[bool, bool], *, six: bool = False) -> Probe:
    """Whether the SSH port of a host greets a vantage point, by IPv4 or IPv6."""

    def knock() -> bool:
        address = host.address6 if six else host.address
        return ssh_greeting(lab.netns(vantage), address, host.port) is not None

    by = " by IPv6" if six else " by IPv4" if vantage == "attacker" else ""
    name = f"{host.name}{by} from the {vantage}"
    return Probe(name, knock, ("answers", "silent"), wanted, host.name)


def cut_off(lab: Lab, host: LabHost) -> list[Probe]:
    """The questions of an isolation: dark to the attacker and to everyone, open to the responder."""
    return [
        reached(lab, host, "attacker", ENDS),
        reached(lab, host, "attacker", ENDS, six=True),
        reached(lab, host, "visitor", ENDS),
        reached(lab, host, "responder", STAYS),
    ]


def left_alone(lab: Lab, bystander: LabHost) -> Probe:
    """That a host nobody named still answers."""
    plain = reached(lab, bystander, "visitor", STAYS)
    return Probe(f"bystander {bystander.name} from outside", plain.ask, plain.words, STAYS)


def back(lab: Lab, host: LabHost) -> list[Probe]:
    """The questions after release: users reach the host again, and its firewall is as it was, byte for byte."""
    before = ruleset(lab, host)
    plain = reached(lab, host, "visitor", STAYS)
    return [
        Probe(f"{host.name} after release, from outside", plain.ask, plain.words, STAYS, host.name),
        Probe(
            f"firewall of {host.name} after release",
            lambda: ruleset(lab, host) == before,
            ("as before, byte for byte", "different"),
            STAYS,
            host.name,
        ),
    ]


def deleted_binaries(lab: Lab, beacons: Iterable[tuple[LabHost, Beacon]]) -> dict[str, tuple[str, str]]:
    """By host: what a beacon leaves in evidence: the SHA-256 of its program, read from the process."""
    found = {}
    for host, beacon in beacons:
        done = lab.exec(host, ["sha256sum", f"/proc/{beacon.pid}/exe"], timeout_s=10)
        found[host.name] = ("deleted binary", done.stdout.decode().split()[0])
    return found


def ruleset(lab: Lab, host: LabHost) -> bytes:
    """The host's whole nftables ruleset, without counters."""
    return lab.exec(host, ["nft", "-s", "list", "ruleset"], timeout_s=10).stdout


def ask(probes: Sequence[Probe]) -> list[bool]:
    """Ask all, in parallel: each may have to wait for silence."""
    with ThreadPoolExecutor(min(32, max(1, len(probes)))) as pool:
        return list(pool.map(lambda probe: probe.ask(), probes))


def score(probes: Sequence[Probe], before: Sequence[bool], after: Sequence[bool]) -> list[CheckScore]:
    """Answers as scores; a probe that said nothing else before than after proves nothing where it should change."""
    return [
        CheckScore(
            name=probe.name,
            before=probe.word(was),
            after=probe.word(now),
            passed=(was, now) == probe.wanted,
            host=probe.host,
        )
        for probe, was, now in zip(probes, before, after, strict=True)
    ]
