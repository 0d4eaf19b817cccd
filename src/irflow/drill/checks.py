"""What a drill looks at from outside: the attacker's session, beacon and logins; the user's and responder's ways in."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from irflow.drill.scorecard import CheckScore
from irflow.lab.attack import StagedAttack
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.vantage import ssh_greeting

BEACON_QUIET_S = 1.0
"""Five missed beats of 0.2 s count as silence."""


@dataclass(frozen=True)
class Probe:
    """One question asked before and after. wanted: the answers that pass, (before, after)."""

    name: str
    ask: Callable[[], bool]
    words: tuple[str, str]
    wanted: tuple[bool, bool]

    def word(self, answer: bool) -> str:
        """The answer for people."""
        return self.words[0] if answer else self.words[1]


def attack_probes(lab: Lab, attack: StagedAttack, bystander: LabHost) -> list[Probe]:
    """The questions about one attacked host, and that a host nobody named is left alone."""
    host = attack.host
    return [
        Probe(f"attacker's SSH session on {host.name}", attack.session_alive, ("alive", "dead"), (True, False)),
        Probe(f"attacker's beacon from {host.name}", lambda: _beacon(attack), ("heard", "silent"), (True, False)),
        Probe(f"attacker's new login on {host.name}", attack.can_connect, ("possible", "impossible"), (True, False)),
        Probe(
            f"{host.name} by IPv4 from the attacker",
            lambda: _answers(lab, "attacker", host, host.address),
            ("answers", "silent"),
            (True, False),
        ),
        Probe(
            f"{host.name} by IPv6 from the attacker",
            lambda: _answers(lab, "attacker", host, host.address6),
            ("answers", "silent"),
            (True, False),
        ),
        Probe(
            f"{host.name} from the responder",
            lambda: _answers(lab, "responder", host, host.address),
            ("answers", "silent"),
            (True, True),
        ),
        Probe(
            f"bystander {bystander.name} from outside",
            lambda: _answers(lab, "attacker", bystander, bystander.address),
            ("answers", "silent"),
            (True, True),
        ),
    ]


def release_probes(lab: Lab, host: LabHost, ruleset_before: bytes) -> list[Probe]:
    """The questions after release: users reach the host again, and its firewall is as it was, byte for byte."""
    return [
        Probe(
            f"{host.name} after release, from outside",
            lambda: _answers(lab, "attacker", host, host.address),
            ("answers", "silent"),
            (True, True),
        ),
        Probe(
            f"firewall of {host.name} after release",
            lambda: ruleset(lab, host) == ruleset_before,
            ("as before, byte for byte", "different"),
            (True, True),
        ),
    ]


def _beacon(attack: StagedAttack) -> bool:
    return attack.beacon_seen_since(time.monotonic(), BEACON_QUIET_S)


def _answers(lab: Lab, vantage: str, host: LabHost, address: str) -> bool:
    return ssh_greeting(lab.netns(vantage), address, host.port) is not None


def binary_hash(lab: Lab, attack: StagedAttack) -> str:
    """SHA-256 of the beacon's program, read from the running process: its file is deleted."""
    done = lab.exec(attack.host, ["sha256sum", f"/proc/{attack.beacon_pid}/exe"], timeout_s=10)
    return done.stdout.decode().split()[0]


def ruleset(lab: Lab, host: LabHost) -> bytes:
    """The host's whole nftables ruleset, without counters."""
    return lab.exec(host, ["nft", "-s", "list", "ruleset"], timeout_s=10).stdout


def evidence_text(path: Path) -> str:
    """All text in an evidence archive (tar, maybe gzip), for searching."""
    with tarfile.open(path) as archive:
        parts = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
        return "\n".join(part.read().decode("utf-8", "replace") for part in parts if part is not None)


def ask(probes: Sequence[Probe]) -> list[bool]:
    """Ask all, in parallel: each may have to wait for silence."""
    with ThreadPoolExecutor(min(32, max(1, len(probes)))) as pool:
        return list(pool.map(lambda probe: probe.ask(), probes))


def score(probes: Sequence[Probe], before: Sequence[bool], after: Sequence[bool]) -> list[CheckScore]:
    """Answers as scores; a probe that said nothing else before than after proves nothing where it should change."""
    return [
        CheckScore(name=probe.name, before=probe.word(was), after=probe.word(now), passed=(was, now) == probe.wanted)
        for probe, was, now in zip(probes, before, after, strict=True)
    ]
