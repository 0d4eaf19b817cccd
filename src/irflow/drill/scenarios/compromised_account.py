"""A stolen key and every way of staying that one account has: the account is shut, all others go on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from irflow.drill import checks
from irflow.drill.checks import Probe
from irflow.drill.scenario import Alarm, Attack, Scenario, Stage
from irflow.lab.attack_account import ACCOUNT, StolenAccount
from irflow.lab.intruder import works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.vantage import ssh_argv

OTHER = "alice"
"""Somebody else who works on the same host."""


class _Attack(Attack):
    def __init__(self, stage: Stage, intruders: list[StolenAccount]) -> None:
        self._stage, self._intruders = stage, intruders
        self._traces = checks.deleted_binaries(stage.lab, ((one.host, one.beacon) for one in intruders))

    def summary(self) -> str:
        jobs = "cron and at jobs" if all(one.has_at for one in self._intruders) else "cron job"
        return f"{ACCOUNT}'s stolen key, a second key, {jobs}, SSH session, beacon"

    def alarm(self) -> Alarm:
        type_, severity = SCENARIO.alert
        names = tuple(one.host.name for one in self._intruders)
        return Alarm(
            type_, f"{ACCOUNT} logged in from an unknown address", names, self._stage.lab.attacker_addresses,
            (ACCOUNT,), severity,
        )  # fmt: skip

    def contained(self) -> list[Probe]:
        lab, probes = self._stage.lab, []
        for one in self._intruders:
            probes += [
                checks.alive(one.host, "attacker's SSH session", one.session_alive),
                checks.heard(one.host, one.beacon),
                *_ways_in(one),
                checks.there(one.host, f"processes of {ACCOUNT}", one.processes),
                checks.there(one.host, "attacker's cron job", one.cron_job),
                *([checks.there(one.host, "attacker's at job", one.at_job)] if one.has_at else []),
                _others_login(lab, one.host),
                checks.reached(lab, one.host, "visitor", checks.STAYS),
                checks.reached(lab, one.host, "responder", checks.STAYS),
            ]
        return [*probes, checks.left_alone(lab, self._stage.bystander)]

    def recovered(self) -> list[Probe]:
        return [
            probe
            for one in self._intruders
            for probe in (*_ways_in(one, " at the end"), _others_login(self._stage.lab, one.host, " at the end"))
        ]

    def eradicate(self) -> None:
        for one in self._intruders:
            one.clean()

    def traces(self) -> Mapping[str, tuple[str, str]]:
        return self._traces


def _ways_in(one: StolenAccount, when: str = "") -> list[Probe]:
    return [
        checks.possible(one.host, f"login with the stolen key{when}", one.stolen_key_works),
        checks.possible(one.host, f"login with the planted key{when}", one.planted_key_works),
    ]


def _others_login(lab: Lab, host: LabHost, when: str = "") -> Probe:
    login = ssh_argv(lab, host, "visitor", user=OTHER)
    return checks.possible(
        host, f"{OTHER}'s own login{when}", lambda: works(lab, login, 5.0, "visitor"), checks.STAYS
    )  # fmt: skip


class _CompromisedAccount(Scenario):
    name = "compromised-account"
    title = "A stolen key, jobs left: the account is shut"
    alert = ("compromised_account", "critical")
    containing = frozenset({"account.disable"})

    def attack(self, stage: Stage, cleanup: ExitStack) -> Attack:
        return _Attack(stage, [cleanup.enter_context(StolenAccount(stage.lab, host)) for host in stage.victims])


SCENARIO = _CompromisedAccount()
