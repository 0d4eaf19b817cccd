"""A host under someone else's control: an SSH session, a beacon from a deleted binary, changed files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from irflow.drill import checks
from irflow.drill.checks import Probe
from irflow.drill.scenario import Alarm, Attack, Scenario, Stage
from irflow.lab.attack import StagedAttack
from irflow.lab.attack import stage as break_in


class _Attack(Attack):
    def __init__(self, stage: Stage, intruders: list[StagedAttack]) -> None:
        self._stage, self._intruders = stage, intruders
        self._traces = checks.deleted_binaries(stage.lab, ((one.host, one.beacon) for one in intruders))

    def summary(self) -> str:
        return "SSH session, beacon from a deleted binary, changed files"

    def alarm(self) -> Alarm:
        type_, severity = SCENARIO.alert
        names = tuple(one.host.name for one in self._intruders)
        return Alarm(type_, "Beacon from a deleted binary", names, severity=severity)

    def contained(self) -> list[Probe]:
        probes = []
        for one in self._intruders:
            probes += [
                checks.alive(one.host, "attacker's SSH session", one.session_alive),
                checks.heard(one.host, one.beacon),
                checks.possible(one.host, "attacker's new login", one.can_connect),
                *checks.cut_off(self._stage.lab, one.host),
            ]
        return [*probes, checks.left_alone(self._stage.lab, self._stage.bystander)]

    def recovered(self) -> list[Probe]:
        probes = []
        for one in self._intruders:
            probes += checks.back(self._stage.lab, one.host)
            probes.append(checks.possible(one.host, "attacker's login at the end", one.can_connect))
        return probes

    def eradicate(self) -> None:
        for one in self._intruders:
            one.clean()

    def traces(self) -> Mapping[str, tuple[str, str]]:
        return self._traces


class _CompromisedHost(Scenario):
    name = "compromised-host"
    title = "Session, beacon, files: the host is cut off"
    alert = ("system_compromise", "critical")
    containing = frozenset({"host.isolate"})

    def attack(self, stage: Stage, cleanup: ExitStack) -> Attack:
        return _Attack(stage, [cleanup.enter_context(break_in(stage.lab, host)) for host in stage.victims])


SCENARIO = _CompromisedHost()
