"""One incident about hosts that are all broken in their own way: each gets a clear error, the others are cut in time.

Then everything is mended and retried. Real hosts, real SSH, the real commands for looking and retrying.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core.journal import Event, Kind
from irflow.core.model import from_text
from irflow.core.phase import PhaseResult, execute
from irflow.core.playbook import Phase
from irflow.core.status import State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.syscalls import in_network
from irflow.wiring import load, open_runtime
from tests.services.irflow_site import Site, site, until

pytestmark = pytest.mark.timeout(240)

ISOLATE = "isolate-host.isolate"
OTHERS_MAY_WAIT_S = 4.0
"""How much later a healthy host may be cut because of the broken ones: far less than any of their deadlines."""
LISTENS_SILENTLY = 2222


@dataclass
class World:
    """An installation whose inventory can be made wrong and right again."""

    here: Site

    def inventory(self, changes: dict[str, dict[str, Any]]) -> None:
        """Write the inventory with some entries changed, and read it again."""
        path = self.here.home / "inventory.yaml"
        original = self.here.home / "inventory.json"
        if not original.exists():
            original.write_text(path.read_text())
        data = json.loads(original.read_text())
        for name, one in changes.items():
            data["hosts"][name].update(one)
        path.write_text(json.dumps(data))
        self.here = replace(self.here, config=load(self.here.home))

    def contain(self, incident: str) -> PhaseResult:
        """Containment as far as it goes without a person."""
        with open_runtime(self.here.config, process="responder") as wired, ThreadExecutor() as executor:
            return execute(wired.engine, incident, Phase.CONTAINMENT, executor, run_id=str(ULID()), kind="threads")

    def command(self, *words: str) -> Any:
        """A command of ours; its JSON, or its text."""
        argv = [sys.executable, "-m", "irflow", "--home", str(self.here.home), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in words else done.stdout


# ---------------------------------------------------------------- what can be wrong with a host


@dataclass(frozen=True)
class Trouble:
    """One way in which a host is broken.

    inventory: what irflow.yaml's inventory wrongly says. break_, mend: what is done to the host. error: the class that
    must be journalled, within within_s seconds of the step's start, with a text that has `says` in it.
    """

    error: str
    says: str
    within_s: float
    inventory: Callable[[Lab, LabHost], dict[str, Any]] = lambda lab, host: {}
    break_: Callable[[Lab, LabHost], None] = lambda lab, host: None
    mend: Callable[[Lab, LabHost], None] = lambda lab, host: None
    state: State = State.FAILED


def _on(lab: Lab, host: LabHost, script: str) -> None:
    done = lab.exec(host, ["sh", "-euc", script])
    assert done.returncode == 0, done.stderr.decode()


_FILTERS = "nft iptables iptables-restore iptables-save ip6tables ip6tables-restore ip6tables-save"
_HIDE = f"for one in {_FILTERS}; do [ ! -e /usr/sbin/$one ] || mv /usr/sbin/$one /usr/sbin/hidden-$one; done"
_SHOW = f"for one in {_FILTERS}; do [ ! -e /usr/sbin/hidden-$one ] || mv /usr/sbin/hidden-$one /usr/sbin/$one; done"

# Loading rules waits until it is told to go on, so that the cable can be pulled while the command runs.
_SLOW_NFT = """\
mv /usr/sbin/nft /usr/sbin/nft.real
cat >/usr/sbin/nft <<'END'
#!/bin/sh
case "$*" in -f*) : >/run/loading; while [ ! -e /run/go ]; do sleep 0.05; done ;; esac
exec /usr/sbin/nft.real "$@"
END
chmod 755 /usr/sbin/nft
"""


def _pull_while_it_loads(lab: Lab, host: LabHost) -> None:
    def pull() -> None:
        until(lambda: lab.exec(host, ["test", "-e", "/run/loading"]).returncode == 0, 30, "the rules are being loaded")
        lab.unplug(host)
        _on(lab, host, ": >/run/go")

    _on(lab, host, _SLOW_NFT)
    threading.Thread(target=pull, name="cable").start()


def _plug_and_mend(lab: Lab, host: LabHost) -> None:
    lab.plug(host)
    _on(lab, host, "mv /usr/sbin/nft.real /usr/sbin/nft")


TROUBLES = {
    "unreachable": Trouble("HostUnreachable", "port 22: no ", 45, break_=Lab.unplug, mend=Lab.plug),
    "another host key": Trouble(
        "HostKeyChanged", "Somebody may be in between", 10,
        inventory=lambda lab, host: {"host_keys": [lab.hosts[0].host_key]},
    ),
    "login refused": Trouble(
        "LoginFailed", "the host refused the login as root", 10,
        break_=lambda lab, host: _on(lab, host, "mv /root/.ssh/authorized_keys /root/.ssh/hidden"),
        mend=lambda lab, host: _on(lab, host, "mv /root/.ssh/hidden /root/.ssh/authorized_keys"),
    ),
    "no packet filter": Trouble(
        "RemoteFailed", "neither nft nor iptables works here", 10,
        break_=lambda lab, host: _on(lab, host, _HIDE), mend=lambda lab, host: _on(lab, host, _SHOW),
    ),
    "not root": Trouble("RemoteFailed", "root is needed", 10, inventory=lambda lab, host: {"user": "ir"}),
    "never answers": Trouble(
        "HostUnreachable", "the host sent no SSH greeting", 45,
        inventory=lambda lab, host: {"address": lab.attacker_addresses[0], "port": LISTENS_SILENTLY},
    ),
    "cable pulled mid-command": Trouble(
        "OutcomeUnknown", "it could not be looked at again", 60, break_=_pull_while_it_loads, mend=_plug_and_mend,
        state=State.UNKNOWN,
    ),
}  # fmt: skip
HEALTHY = ("fine", "fine too", "management is wrong")
BASELINE = "another fine one"
"""Cut before, in an incident of its own, to see how long that takes here and now."""


@contextmanager
def silent_listener(lab: Lab) -> Iterator[None]:
    """A port in the attacker's network that takes connections and never says a word."""
    with in_network(lab.netns("attacker")):
        listener = socket.create_server((lab.attacker_addresses[0], LISTENS_SILENTLY), backlog=64)
    with listener:
        yield


@dataclass
class Scene:
    """The one incident. hosts: by trouble. baseline_s: how long cutting one healthy host takes here."""

    world: World
    hosts: dict[str, LabHost]
    incident: str
    baseline_s: float
    result: PhaseResult

    def outcome(self, trouble: str, step: str = ISOLATE) -> Event:
        key = f"containment/{step}@{self.hosts[trouble].name}"
        (event,) = [one for one in self.world.here.events(self.incident, Kind.STEP_OUTCOME) if one.step == key]
        return event


def _seconds_to_cut(here: Site, incident: str, host: LabHost) -> float:
    began = here.events(incident, Kind.RUN_STARTED)[0]
    key = f"containment/{ISOLATE}@{host.name}"
    ended = next(one for one in here.events(incident, Kind.STEP_OUTCOME) if one.step == key)
    return (from_text(ended.at) - from_text(began.at)).total_seconds()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("faults")
    names = (*HEALTHY, *TROUBLES, BASELINE)
    with (
        Lab.up(len(names), folder / "lab", level=Level.ROOT) as lab,
        site(folder / "home", lab) as here,
        silent_listener(lab),
    ):
        hosts = dict(zip(names, lab.hosts, strict=True))
        world = World(here)
        first = world.here.alert(hosts[BASELINE].name)
        world.contain(first)
        baseline = _seconds_to_cut(world.here, first, hosts[BASELINE])
        wrong = {hosts[name].name: one.inventory(lab, hosts[name]) for name, one in TROUBLES.items()}
        world.inventory({**wrong, hosts[HEALTHY[2]].name: {"management": ["192.0.2.0/24"]}})
        for name, trouble in TROUBLES.items():
            trouble.break_(lab, hosts[name])
        incident = world.here.alert(*(hosts[name].name for name in (*TROUBLES, *HEALTHY)))
        yield Scene(world, hosts, incident, baseline, world.contain(incident))


@pytest.mark.parametrize("name", TROUBLES)
def test_a_broken_host_gets_a_clear_error_within_its_deadline(name: str, scene: Scene) -> None:
    trouble, host = TROUBLES[name], scene.hosts[name]
    outcome = scene.outcome(name)
    assert outcome.data["outcome"] == trouble.state
    assert outcome.data["error"] == trouble.error
    assert outcome.data["detail"].startswith(f"{host.name}: "), outcome.data["detail"]
    assert trouble.says in outcome.data["detail"]
    began = scene.world.here.events(scene.incident, Kind.RUN_STARTED)[0]
    assert (from_text(outcome.at) - from_text(began.at)).total_seconds() < trouble.within_s
    assert host.name not in {one.target for one in scene.world.here.status(scene.incident).leases.values()}


@pytest.mark.parametrize("name", HEALTHY)
def test_the_other_hosts_are_cut_all_the_same_and_not_later(name: str, scene: Scene) -> None:
    here, host = scene.world.here, scene.hosts[name]
    assert scene.outcome(name).data["outcome"] == State.DONE
    assert _seconds_to_cut(here, scene.incident, host) < scene.baseline_s + OTHERS_MAY_WAIT_S
    assert here.isolation(host).kinds == ("lease",)
    assert here.dark(host)
    assert here.lets_responder_in(host), "its own peer must get in, whatever `management` says"


def test_the_incident_says_what_is_open(scene: Scene) -> None:
    number = scene.world.here.status(scene.incident).incident.number
    assert scene.result.state == "blocked"
    told = scene.world.command("incidents", "show", number, "--json")
    (containment,) = [one for one in told["phases"] if one["phase"] == "containment"]
    assert containment["blocked"]
    assert containment["ended_at"] is None
    cuts = {one["target"]: one for one in told["steps"] if f"/{ISOLATE}@" in one["key"]}
    assert {one: cuts[scene.hosts[one].name]["state"] for one in (*TROUBLES, *HEALTHY)} == (
        {one: trouble.state for one, trouble in TROUBLES.items()} | dict.fromkeys(HEALTHY, "done")
    )
    for name, trouble in TROUBLES.items():
        assert trouble.says in cuts[scene.hosts[name].name]["detail"]
    text = scene.world.command("incidents", "show", number)
    for name in TROUBLES:
        assert f"{ISOLATE}@{scene.hosts[name].name}" in text
    assert scene.world.here.verified() == []


def test_after_mending_retry_cuts_the_rest(scene: Scene) -> None:
    world, lab = scene.world, scene.world.here.lab
    number = world.here.status(scene.incident).incident.number
    cut_before = {name: scene.outcome(name) for name in HEALTHY}
    for name, trouble in TROUBLES.items():
        trouble.mend(lab, scene.hosts[name])
    world.inventory({scene.hosts["not root"].name: {"user": "ir", "sudo": True}})
    world.command("retry", number, "--as", world.here.installation.operators[0])
    result = world.contain(scene.incident)
    assert result.state == "awaiting_approval", result.open_items
    here = world.here
    assert {one.target for one in here.status(scene.incident).leases.values()} == {
        scene.hosts[name].name for name in (*TROUBLES, *HEALTHY)
    }
    for name in TROUBLES:
        assert here.isolation(scene.hosts[name]).kinds == ("lease",), name
        assert here.dark(scene.hosts[name]), name
    assert {name: scene.outcome(name) for name in HEALTHY} == cut_before, "nothing was done to them again"
    assert here.open_intents(scene.incident) == []
    assert here.verified() == []
