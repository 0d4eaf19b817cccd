"""Passwords guessed over SSH until one is right: the attacker's addresses are blocked, everyone else's are not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from irflow.drill import checks
from irflow.drill.checks import Probe
from irflow.drill.scenario import Alarm, Attack, Scenario, Stage
from irflow.lab.attack_brute_force import ACCOUNT, BruteForce, weaken


class _Attack(Attack):
    def __init__(self, stage: Stage, intruders: list[BruteForce]) -> None:
        self._stage, self._intruders = stage, intruders
        self._traces = checks.deleted_binaries(stage.lab, ((one.host, one.beacon) for one in intruders))

    def summary(self) -> str:
        failures = sum(one.failures() for one in self._intruders)
        return f"{failures} wrong passwords for {ACCOUNT}, then the right one; SSH session, beacon"

    def alarm(self) -> Alarm:
        type_, severity = SCENARIO.alert
        names = tuple(one.host.name for one in self._intruders)
        return Alarm(
            type_, f"Login as {ACCOUNT} after many failures", names, self._stage.lab.attacker_addresses, (ACCOUNT,),
            severity,
        )  # fmt: skip

    def contained(self) -> list[Probe]:
        lab, probes = self._stage.lab, []
        for one in self._intruders:
            probes += [
                checks.alive(one.host, "attacker's SSH session", one.session.echoes),
                checks.heard(one.host, one.beacon),
                checks.possible(one.host, "attacker's new login", one.can_connect),
                checks.reached(lab, one.host, "attacker", checks.ENDS),
                checks.reached(lab, one.host, "attacker", checks.ENDS, six=True),
                checks.reached(lab, one.host, "visitor", checks.STAYS),
                checks.reached(lab, one.host, "visitor", checks.STAYS, six=True),
                checks.reached(lab, one.host, "responder", checks.STAYS),
            ]
        return [*probes, checks.left_alone(lab, self._stage.bystander)]

    def recovered(self) -> list[Probe]:
        return [
            probe
            for one in self._intruders
            for probe in (
                checks.possible(one.host, "attacker's login at the end", one.can_connect),
                *checks.back(self._stage.lab, one.host),
            )
        ]

    def eradicate(self) -> None:
        for one in self._intruders:
            one.clean()

    def traces(self) -> Mapping[str, tuple[str, str]]:
        return self._traces


class _BruteForce(Scenario):
    name = "brute-force"
    title = "A password guessed: the guesser is blocked"
    alert = ("brute_force", "critical")
    containing = frozenset({"network.block_ip"})

    def prepare(self, stage: Stage) -> None:
        for host in stage.victims:
            weaken(stage.lab, host)

    def attack(self, stage: Stage, cleanup: ExitStack) -> Attack:
        return _Attack(stage, [cleanup.enter_context(BruteForce(stage.lab, host)) for host in stage.victims])


SCENARIO = _BruteForce()
