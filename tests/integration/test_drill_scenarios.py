"""What a scenario asks is answered by its attack before, by a containment done by hand after, and never by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from irflow.drill import checks, scenarios
from irflow.drill.scenario import Attack, Stage
from irflow.lab.intruder import on_host
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level

_CUT = """nft -f - <<'END'
table inet byhand {
  chain i { type filter hook input priority -310; policy drop; iif lo accept; ip saddr 10.77.0.10 accept; }
  chain o { type filter hook output priority -310; policy drop; oif lo accept; ip daddr 10.77.0.10 accept; }
}
END"""
_BLOCK = """nft -f - <<'END'
table inet byhand {
  chain i { type filter hook input priority -310; ip saddr 10.77.0.66 drop; ip6 saddr fd77::66 drop; }
  chain o { type filter hook output priority -310; ip daddr 10.77.0.66 drop; ip6 daddr fd77::66 drop; }
}
END"""
_SHUT = """
usermod -e 1 deploy
mv /var/spool/cron/crontabs/deploy /root/crontab
if [ -n "$(ls /var/spool/cron/atjobs)" ]; then mv /var/spool/cron/atjobs/* /root/; fi
while p=$(ps -u deploy -o pid=); do kill -KILL $p 2>/dev/null || :; done
"""
_OPEN = "nft delete table inet byhand"
_ALLOW = "usermod -e '' deploy"

BY_HAND = {
    "compromised-host": (_CUT, _OPEN),
    "brute-force": (_BLOCK, _OPEN),
    "compromised-account": (_SHUT, _ALLOW),
    "lateral-movement": (_CUT, _OPEN),
}


@contextmanager
def staged(name: str, run_dir: Path) -> Iterator[tuple[Lab, tuple[LabHost, ...], Attack]]:
    """A scenario's attack on as few hosts as it takes."""
    scenario = scenarios.find(name)
    number = scenario.least_hosts
    with ExitStack() as cleanup:
        lab = cleanup.enter_context(Lab.up(number + 1, run_dir, level=Level.ROOT))
        stage = Stage(lab, lab.hosts[:number], lab.hosts[number])
        scenario.prepare(stage)
        yield lab, stage.victims, scenario.attack(stage, cleanup)


def each(lab: Lab, hosts: tuple[LabHost, ...], script: str) -> None:
    for host in hosts:
        on_host(lab, host, script)


def failed(probes: list[checks.Probe], before: list[bool]) -> set[str]:
    return {one.name for one in checks.score(probes, before, checks.ask(probes)) if not one.passed}


def test_every_scenario_is_tried_here_whose_end_a_hand_on_a_host_can_bring_about() -> None:
    assert set(BY_HAND) == {name for name, one in scenarios.load().items() if not one.has_estate}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_checks_pass_after_containment_and_only_then(name: str, tmp_path: Path) -> None:
    contain, undo = BY_HAND[name]
    with staged(name, tmp_path / "run") as (lab, victims, attack):
        alarm = attack.alarm()
        assert (alarm.type, alarm.severity) == scenarios.find(name).alert
        assert alarm.hosts == tuple(host.name for host in victims)
        assert set(alarm.addresses) <= set(lab.attacker_addresses)
        first, last = attack.contained(), attack.recovered()
        before = checks.ask([*first, *last])
        assert [one.name for one, was in zip([*first, *last], before, strict=True) if was != one.wanted[0]] == []
        changing = {one.name for one in first if one.wanted == checks.ENDS}
        assert len(changing) >= 3 * len(victims)
        assert failed(first, before[: len(first)]) == changing, "without containment all that should change has failed"

        each(lab, victims, contain)
        assert failed(first, before[: len(first)]) == set()

        assert attack.traces().keys() == {host.name for host in victims}
        attack.eradicate()
        each(lab, victims, undo)
        assert failed(last, before[len(first) :]) == set()


def test_an_attack_that_was_not_eradicated_fails_the_last_checks(tmp_path: Path) -> None:
    with staged("compromised-host", tmp_path / "run") as (lab, victims, attack):
        last: list[checks.Probe] = attack.recovered()
        answers: Callable[[], list[bool]] = lambda: checks.ask(last)  # noqa: E731
        assert failed(last, answers()) == {f"attacker's login at the end on {victims[0].name}"}
        each(lab, victims, "nft add table inet leftover")
        assert f"firewall of {victims[0].name} after release" in failed(last, [True] * len(last))
