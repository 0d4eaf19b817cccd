"""Credentials that somebody found: each is replaced, the found one is dead everywhere, and nobody else is kept out."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import psycopg

from irflow.core.status import IncidentStatus
from irflow.drill import checks
from irflow.drill.checks import Probe
from irflow.drill.consumer import Consumer
from irflow.drill.estate import (
    BYSTANDER,
    CACHE,
    DATABASE,
    KEY_ACCOUNT,
    LOGIN,
    PASSWORD_ACCOUNT,
    Estate,
    key_of,
    password_of,
)
from irflow.drill.scenario import Alarm, Attack, Scenario, Stage
from irflow.drill.scorecard import CheckScore
from irflow.lab.attack_brute_force import TAKE_PASSWORDS
from irflow.lab.intruder import on_host, works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.password_login import password_opens
from irflow.lab.redis_server import CacheSession
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv

ACTION = "secret.rotate"


class _Attack(Attack):
    """The thief has every value but one, and uses them."""

    def __init__(self, stage: Stage, estate: Estate, cleanup: ExitStack) -> None:
        self._stage, self._estate = stage, estate
        self._database = estate.database.log_in("shop", estate.first[DATABASE])
        cleanup.callback(self._database.close)
        self._cache = cleanup.enter_context(CacheSession(estate.cache.port))
        self._cache.log_in("shop", estate.first[CACHE])
        self._sessions = {
            host.name: Session(stage.lab, host, login=_key_login(stage.lab, host, "attacker", stage.lab.deploy_key))
            for host in stage.victims
        }
        for session in self._sessions.values():
            cleanup.callback(session.close)
        self._consumers = [cleanup.enter_context(one) for one in self._needing()]

    def summary(self) -> str:
        return f"{len(self._estate.leaked)} secrets in a public place; sessions in the database, the cache and by SSH"

    def alarm(self) -> Alarm:
        type_, severity = SCENARIO.alert
        names = tuple(host.name for host in self._stage.victims)
        return Alarm(
            type_, "Credentials of the shop found in a public repository", names, severity=severity,
            secrets=self._estate.leaked,
        )  # fmt: skip

    def contained(self) -> list[Probe]:
        estate, lab = self._estate, self._stage.lab
        probes = [
            *self._stolen(),
            _probe("thief's open session in the database", self._database_answers, ("alive", "dead")),
            _probe("thief's open session in the cache", self._cache.alive, ("alive", "dead")),
            _probe("shop's own login to the database", partial(self._owner_opens, DATABASE), wanted=checks.STAYS),
            _probe("shop's own login to the cache", partial(self._owner_opens, CACHE), wanted=checks.STAYS),
            _probe("shop's own login to Vault", partial(self._owner_opens, LOGIN), wanted=checks.STAYS),
            _probe(
                f"{BYSTANDER}, which nobody named, with the value it had",
                lambda: estate.database.opens("audit", estate.first[BYSTANDER]), wanted=checks.STAYS,
            ),
        ]  # fmt: skip
        for host in self._stage.victims:
            session = self._sessions[host.name]
            probes += [
                checks.alive(host, "thief's SSH session", session.echoes),
                checks.reached(lab, host, "attacker", checks.STAYS),
                checks.reached(lab, host, "responder", checks.STAYS),
            ]
        return [*probes, checks.left_alone(lab, self._stage.bystander)]

    def recovered(self) -> list[Probe]:
        return self._stolen(" at the end")

    def eradicate(self) -> None:
        """Nothing was left: who is locked out has nothing to come back with."""

    def afterwards(self, status: IncidentStatus) -> list[CheckScore]:
        for one in self._consumers:
            one.stop()
        gaps: dict[str, float] = {}
        for plan in (phase.plan for phase in status.phases.values() if phase.plan):
            for step in plan.steps:
                if step.action == ACTION:
                    gaps |= status.step(step.key).outcome.get("facts", {}).get("gaps_s", {})
        return [one.score(gaps.get(one.name)) for one in self._consumers]

    def _stolen(self, when: str = "") -> list[Probe]:
        """What the thief tries with what was found."""
        estate, lab = self._estate, self._stage.lab
        probes = [
            _probe(f"leaked password of the database{when}", partial(self._opens, DATABASE, estate.first[DATABASE])),
            _probe(f"leaked password of the cache{when}", partial(self._opens, CACHE, estate.first[CACHE])),
            _probe(f"leaked secret-id of Vault{when}", partial(self._opens, LOGIN, estate.first[LOGIN])),
        ]
        for host in self._stage.victims:
            key, password = _key_login(lab, host, "attacker", lab.deploy_key), estate.first[password_of(host)]
            probes += [
                checks.possible(host, f"leaked key{when}", partial(works, lab, key, 5.0)),
                checks.possible(
                    host, f"leaked password{when}",
                    partial(password_opens, lab, host, "attacker", PASSWORD_ACCOUNT, password),
                ),
            ]  # fmt: skip
        return probes

    def _needing(self) -> list[Consumer]:
        """Those who go on needing them."""
        lab, read = self._stage.lab, self._estate.live
        named = [Consumer(name, partial(read, name), partial(self._opens, name)) for name in (DATABASE, CACHE, LOGIN)]
        for host in self._stage.victims[:1]:  # each login by SSH costs the machine some 0.1 s
            key, password = key_of(host), password_of(host)
            named += [
                Consumer(key, partial(read, key), partial(_key_opens, lab, host)),
                Consumer(
                    password, partial(read, password), partial(password_opens, lab, host, "visitor", PASSWORD_ACCOUNT)
                ),
            ]
        return named

    def _opens(self, name: str, value: str) -> bool:
        estate = self._estate
        if name == LOGIN:
            return estate.login_opens(value)
        return (estate.database if name == DATABASE else estate.cache).opens("shop", value)

    def _owner_opens(self, name: str) -> bool:
        return self._opens(name, self._estate.live(name))

    def _database_answers(self) -> bool:
        with suppress(psycopg.Error):
            self._database.execute("SELECT 1")
            return True
        return False


def _probe(
    name: str,
    ask: Callable[[], bool],
    words: tuple[str, str] = ("possible", "impossible"),
    wanted: tuple[bool, bool] = checks.ENDS,
) -> Probe:
    return Probe(name, ask, words, wanted)


def _key_login(lab: Lab, host: LabHost, who: str, key: Path) -> list[str]:
    return ssh_argv(lab, host, who, user=KEY_ACCOUNT, key=key, connect_s=5)


def _key_opens(lab: Lab, host: LabHost, value: str) -> bool:
    path = lab.layout.files / f"key-{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value)
        return works(lab, _key_login(lab, host, "visitor", path), 8.0, "visitor")
    finally:
        path.unlink(missing_ok=True)


class _LeakedCredential(Scenario):
    name = "leaked-credential"
    title = "Credentials found in public: replaced and dead"
    alert = ("leaked_credential", "critical")
    containing = frozenset({ACTION})
    profiles = frozenset({"volatile"})
    on_hosts = False
    has_estate = True

    def prepare(self, stage: Stage) -> None:
        for host in stage.victims:
            on_host(stage.lab, host, TAKE_PASSWORDS, "", "yes")

    def attack(self, stage: Stage, cleanup: ExitStack) -> Attack:
        if stage.estate is None:
            raise TypeError(f"{self.name} was staged without its estate")
        return _Attack(stage, stage.estate, cleanup)


SCENARIO = _LeakedCredential()
