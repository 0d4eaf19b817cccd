"""50 hosts × 4 actions in one incident, one of them hung: every host has its result, and nobody waits for the hung one.

The four are the guide's: isolate, block, disable, back up; the shipped runbook `contain`. Prints the times (`-s`).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core.journal import Event, Kind
from irflow.core.model import from_text
from irflow.core.phase import PhaseResult, execute
from irflow.core.playbook import Phase
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.wiring import load, open_runtime
from tests.integration.cli_site import Desk, desk
from tests.services.on_host import on

pytestmark = pytest.mark.timeout(300)

HOSTS = 50
AT_ONCE = 16
FOUR = {step: f"contain.{step}" for step in ("isolate", "block", "disable", "backup")}
PLAYBOOK = """\
playbook: all-four
title: Isolate, block, disable, back up
match: {types: [all_four], severity: [critical]}
roles: {incident_commander: oncall, communications: docs}
auto_approve: {contain.isolate: [critical], contain.block: [critical], contain.disable: [critical]}
phases:
  containment:
    - runbook: contain
      with: {hosts: "{{ incident.hosts }}", addresses: [203.0.113.0/24], accounts: [bob], backup: [/srv]}
documents: []
"""


@dataclass(frozen=True)
class Scene:
    """The incident after containment. hung: the host that took connections and never said a word."""

    here: Desk
    hung: LabHost
    result: PhaseResult
    events: list[Event]

    @property
    def others(self) -> list[LabHost]:
        return [one for one in self.here.lab.hosts if one != self.hung]

    def outcome(self, step: str, host: LabHost) -> Event:
        (event,) = [
            one
            for one in self.events
            if one.kind == Kind.STEP_OUTCOME and one.step == f"containment/{FOUR[step]}@{host.name}"
        ]
        return event

    def seconds(self, event: Event) -> float:
        """From the start of containment."""
        began = next(one for one in self.events if one.kind == Kind.RUN_STARTED)
        return (from_text(event.at) - from_text(began.at)).total_seconds()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Lab.up(HOSTS, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as lab:
        here = desk(tmp_path_factory.mktemp("site") / "home", lab)
        (here.home / "playbooks").mkdir(exist_ok=True)
        (here.home / "playbooks" / "all-four.yaml").write_text(PLAYBOOK)
        for host in lab.hosts:
            on(lab, host, f"mkdir -p /srv; echo {host.name} >/srv/name; echo '@daily true' | crontab -u bob -")
        hung = lab.hosts[HOSTS // 2]
        on(lab, hung, "kill -STOP $(pgrep -o -x sshd)")
        number = here.alert(*(one.name for one in lab.hosts), severity="critical", type="all_four")
        with open_runtime(load(here.home), process="responder") as wired, ThreadExecutor() as executor:
            incident = wired.store.find_incident(number)
            assert incident is not None
            result = execute(wired.engine, incident.id, Phase.CONTAINMENT, executor, run_id=str(ULID()), kind="threads")
            events = wired.store.events(incident.id)
        yield Scene(here, hung, result, events)


def test_each_host_has_its_own_result_and_the_hung_one_delays_nobody(scene: Scene) -> None:
    lab = scene.here.lab
    # All four on the 49, proved by the journal and, from the attacker's side, by their silence.
    done = {step: [scene.outcome(step, host) for host in scene.others] for step in FOUR}
    for step, outcomes in done.items():
        assert {one.data["outcome"] for one in outcomes} == {State.DONE}, step
        assert all(check["passed"] for one in outcomes for check in one.data["checks"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        dark = pool.map(lambda host: vantage.look(lab, host, "attacker", timeout_s=0.2).dark, scene.others)
        assert all(dark)
    for host in scene.others:
        on(lab, host, "grep -q '^bob:!' /etc/shadow; ! [ -e /var/spool/cron/crontabs/bob ]; "
                      "nft list tables | grep -q irflow_block_")  # fmt: skip
    # The hung one says what is wrong with it; what hangs on its cut was not begun.
    cut = scene.outcome("isolate", scene.hung)
    assert cut.data["outcome"] == State.FAILED
    assert (cut.data["error"], "no SSH greeting" in cut.data["detail"]) == ("HostUnreachable", True), cut.data
    assert scene.result.state == "blocked"
    assert any(f"@{scene.hung.name}" in one for one in scene.result.open_items)
    # Nobody waits: when the hung one was given up, all others were cut and blocked, and the rest of them was under way.
    gave_up = scene.seconds(cut)
    times = {step: sorted(scene.seconds(one) for one in outcomes) for step, outcomes in done.items()}
    for step, ended in times.items():
        sys.stdout.write(f"{step:8} median {statistics.median(ended):5.1f} s, last {ended[-1]:5.1f} s\n")
    sys.stdout.write(f"{scene.hung.name} given up after {gave_up:.1f} s\n")
    begun = [scene.seconds(one) for one in scene.events if one.kind == Kind.STEP_INTENT and ".backup@" in one.step]
    assert max(*times["isolate"], *times["block"], min(begun)) < gave_up
