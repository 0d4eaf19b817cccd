"""One host entered, the others from there with a stolen key: all are cut off, from outside and from each other."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from irflow.drill import checks
from irflow.drill.checks import Probe
from irflow.drill.scenario import Alarm, Attack, Scenario, Stage
from irflow.lab.attack_lateral import ENTERED, STOLEN, LateralMovement
from irflow.lab.model import LabHost


class _Attack(Attack):
    def __init__(self, stage: Stage, intruder: LateralMovement) -> None:
        self._stage, self._intruder = stage, intruder
        self._traces = checks.deleted_binaries(
            stage.lab, ((host, intruder.beacons[host.name]) for host in intruder.hosts)
        )

    def summary(self) -> str:
        others = ", ".join(host.name for host in self._intruder.others)
        return f"entered {self._intruder.entry.name}, from there {others} with {STOLEN}'s key; sessions, beacons on all"

    def alarm(self) -> Alarm:
        type_, severity = SCENARIO.alert
        names = tuple(host.name for host in self._intruder.hosts)
        addresses = self._stage.lab.attacker_addresses
        return Alarm(type_, f"{STOLEN}'s key used between servers", names, addresses, (ENTERED, STOLEN), severity)

    def contained(self) -> list[Probe]:
        lab, one, probes = self._stage.lab, self._intruder, []
        for host in one.hosts:
            probes += [
                self._session(host),
                checks.heard(host, one.beacons[host.name]),
                *checks.cut_off(lab, host),
            ]
        for host in one.others:
            probes += [
                self._hop(host, f"new hop from {one.entry.name}"),
                self._between(one.entry, host),
                self._between(host, one.entry),
            ]
        return [*probes, checks.left_alone(lab, self._stage.bystander)]

    def recovered(self) -> list[Probe]:
        one, probes = self._intruder, []
        for host in one.hosts:
            probes += checks.back(self._stage.lab, host)
        probes += [self._hop(host, f"hop from {one.entry.name} at the end") for host in one.others]
        return probes

    def eradicate(self) -> None:
        self._intruder.clean()

    def traces(self) -> Mapping[str, tuple[str, str]]:
        return self._traces

    def _session(self, host: LabHost) -> Probe:
        return checks.alive(host, "attacker's SSH session", lambda: self._intruder.session_alive(host))

    def _hop(self, host: LabHost, what: str) -> Probe:
        return checks.possible(host, what, lambda: self._intruder.can_hop(host))

    def _between(self, source: LabHost, target: LabHost) -> Probe:
        def knock() -> bool:
            return self._intruder.reaches(source, target)

        return Probe(f"{target.name} from {source.name}", knock, ("answers", "silent"), checks.ENDS)


class _LateralMovement(Scenario):
    name = "lateral-movement"
    title = "From host to host: all of them are cut off"
    alert = ("lateral_movement", "critical")
    containing = frozenset({"host.isolate"})
    least_hosts = 3

    def attack(self, stage: Stage, cleanup: ExitStack) -> Attack:
        return _Attack(stage, cleanup.enter_context(LateralMovement(stage.lab, stage.victims)))


SCENARIO = _LateralMovement()
