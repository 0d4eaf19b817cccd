"""Leases against real hosts: every way to drift is found, told by its name, cut again and proved from outside."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from irflow.core import leases as rules
from irflow.core.journal import Event, Kind
from irflow.core.model import Json
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.responder.loop import Responder
from irflow.wiring import load, open_runtime, open_store
from tests.integration.cli_site import FIRST, Desk, desk
from tests.integration.lab_reboot import reboot
from tests.services.irflow_site import until
from tests.services.on_host import on

pytestmark = pytest.mark.timeout(240)

STEP = "containment/isolate-host.isolate@{}"


def dark(lab: Lab, host: LabHost) -> bool:
    """Whether the attacker gets no answer at all."""
    return vantage.look(lab, host, "attacker", timeout_s=0.3).dark


# What root malware, an administrator or the power can do to a host that irflow has cut off.
TAMPERING = {
    "gone": "nft delete table inet irflow",
    "gone (everything flushed)": "nft flush ruleset",
    "rules changed": "nft flush chain inet irflow input; nft flush chain inet irflow output",
    "expired early": "nft flush set inet irflow armed",
}
PLACES = ("rebooted", *TAMPERING, "unreachable", "as recorded")


@dataclass
class Scene:
    """One contained incident about hosts that drifted, each in its own way, and what a reconciliation said."""

    lab: Lab
    desk: Desk
    number: str
    open_before: dict[str, bool]
    code: int
    found: dict[str, Json]
    seconds: float

    def host(self, place: str) -> LabHost:
        return self.lab.hosts[PLACES.index(place)]

    def events(self, kind: Kind, place: str) -> list[Event]:
        with open_store(load(self.desk.home).settings) as store:
            incident = store.find_incident(self.number)
            assert incident is not None
            events = store.events(incident.id)
        return [one for one in events if one.kind == kind and one.target == self.host(place).name]

    def reconcile(self) -> tuple[int, dict[str, Json]]:
        done = self.desk.irflow("leases", "reconcile", self.number, "--json")
        by_name = {one["target"]: one for one in done.json}
        return done.code, {place: by_name[self.host(place).name] for place in PLACES}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("drift")
    with Lab.up(len(PLACES), folder / "lab", level=Level.ROOT) as lab:
        office = desk(folder / "home", lab)
        number = office.alert(*(one.name for one in lab.hosts), severity="critical")
        office.work(number, "containment")
        assert all(dark(lab, one) for one in lab.hosts)
        lab = reboot(lab, lab.hosts[0])
        for place, script in TAMPERING.items():
            on(lab, lab.hosts[PLACES.index(place)], script)
        lab.unplug(lab.hosts[PLACES.index("unreachable")])
        made = Scene(lab, office, number, {}, 0, {}, 0.0)
        made.open_before = {place: not dark(lab, made.host(place)) for place in PLACES}
        start = time.monotonic()
        made.code, made.found = made.reconcile()
        made.seconds = time.monotonic() - start
        yield made


def test_a_reconciliation_names_every_drift_and_says_that_there_was_one(scene: Scene) -> None:
    assert {place: one["finding"] for place, one in scene.found.items()} == {
        place: place.partition(" (")[0] for place in PLACES
    }
    assert scene.code == 1


@pytest.mark.parametrize("place", ["rebooted", *TAMPERING])
def test_what_drifted_was_open_and_is_cut_again_and_told(scene: Scene, place: str) -> None:
    assert scene.open_before[place]
    assert dark(scene.lab, scene.host(place))
    assert scene.found[place]["done"] == "cut again"
    (event,) = scene.events(Kind.LEASE_DRIFTED, place)
    assert (event.data["finding"], event.data["done"]) == (place.partition(" (")[0], "cut again")
    name = scene.host(place).name
    with open_store(load(scene.desk.home).settings) as store:
        titles = [one.payload["title"] for one in store.pending() if one.kind == "notify"]
    assert [one for one in titles if f"isolation of {name}: {event.data['finding']}; cut again" in one]


def test_unreachable_is_not_drift_and_is_told_once(scene: Scene) -> None:
    found = scene.found["unreachable"]
    assert found["in_force"]
    assert found["done"] == ""
    assert "port 22" in found["detail"]
    assert scene.events(Kind.LEASE_DRIFTED, "unreachable") == []
    assert len(scene.events(Kind.LEASE_UNSEEN, "unreachable")) == 1


def test_a_hung_host_delays_no_other_and_all_were_looked_at_at_once(scene: Scene) -> None:
    assert scene.seconds < 30, "one connection's deadline, not the sum of all"


def test_once_mended_everything_is_as_recorded_and_seen_again(scene: Scene) -> None:
    code, found = scene.reconcile()
    assert code == 4, "nothing drifts any more, one host is still unreachable"
    assert {one["finding"] for one in found.values()} == {"as recorded", "unreachable"}
    assert len(scene.events(Kind.LEASE_UNSEEN, "unreachable")) == 1
    scene.lab.plug(scene.host("unreachable"))
    code, found = scene.reconcile()
    assert code == 0, found
    assert [one["finding"] for one in found.values()] == ["as recorded"] * len(PLACES)
    assert len(scene.events(Kind.LEASE_SEEN, "unreachable")) == 1
    assert all(dark(scene.lab, scene.host(place)) for place in PLACES)


def test_the_list_says_what_is_in_force_until_when_and_what_had_drifted(scene: Scene) -> None:
    rows = {one["target"]: one for one in scene.desk.irflow("leases", "list", "--json").json}
    assert {one["state"] for one in rows.values()} == {"in force"}
    assert {rows[scene.host(place).name]["drift"] for place in PLACES} == {
        "rebooted", "gone", "rules changed", "expired early", "",
    }  # fmt: skip
    text = scene.desk.irflow("leases", "list").out
    assert "7 h 59 min" in text
    assert "expired early 20" in text


def test_a_person_sets_for_how_long_from_now_on(scene: Scene) -> None:
    host = scene.host("as recorded")
    done = scene.desk.irflow("leases", "renew", scene.number, host.name, "--for", "90m", "--as", FIRST, "--json")
    assert done.code == 0, done.err
    assert done.json[0]["done"] == "renewed"
    (lease,) = [one for one in scene.desk.status(scene.number).leases.values() if one.target == host.name]
    assert lease.asked_s == 5400
    assert 5390 < (lease.until - lease.granted_at).total_seconds() <= 5400
    expires = json.loads(on(scene.lab, host, "nft -j list set inet irflow armed"))["nftables"][1]["set"]["elem"]
    assert all(5300 < one["elem"]["expires"] <= 5400 for one in expires)
    assert scene.reconcile()[1]["as recorded"]["finding"] == "as recorded", "a shorter lease is no drift"
    again = scene.desk.irflow("leases", "renew", scene.number, host.name, "--as", FIRST, "--json")
    assert again.code == 0
    (lease,) = [one for one in scene.desk.status(scene.number).leases.values() if one.target == host.name]
    assert lease.seconds == 5400, "later renewals keep to it"
    event = scene.events(Kind.LEASE_RENEWED, "as recorded")[-1]
    assert event.actor == f"operator:{FIRST}"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("renew", "web-99"), "has no lease on web-99"),
        (("renew", "web-1", "block"), "In force: 'isolation' on web-1"),
        (("renew", "web-1", "--for", "10s"), "no time of a minute or more"),
        (("release", "web-99"), "has no lease on web-99"),
    ],
)
def test_mistakes_are_told_before_anything_happens(scene: Scene, words: tuple[str, ...], says: str) -> None:
    verb, *rest = words
    done = scene.desk.irflow("leases", verb, scene.number, *rest, "--as", FIRST)
    assert done.code == 2
    assert says in done.err


# ---------------------------------------------------------------- the responder by itself


class Channel:
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def send(self, payload: dict[str, Json]) -> None:
        self.titles.append(payload["title"])


@contextmanager
def responder(scene: Scene, channel: Channel) -> Iterator[None]:
    """The responder's loop, without Prefect."""
    config = load(scene.desk.home)
    with open_runtime(config, process="responder") as wired:
        running = Responder(wired.engine, config.settings, starter=None, channel=channel)
        thread = threading.Thread(target=running.run)
        thread.start()
        try:
            yield
        finally:
            running.stop()
            thread.join(30)


def wait_for(done: Callable[[], Any], what: str) -> None:
    until(done, 30, what)


def test_the_responder_finds_drift_and_cuts_again_by_itself_also_while_halted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CHECK_EVERY", rules.CHECK_EVERY / 60)
    channel = Channel()
    host, halted = scene.host("gone"), scene.host("rules changed")
    before = len(scene.events(Kind.LEASE_DRIFTED, "gone"))
    with responder(scene, channel):
        on(scene.lab, host, "nft delete table inet irflow")
        wait_for(lambda: len(scene.events(Kind.LEASE_DRIFTED, "gone")) > before, "the drift is found")
        wait_for(lambda: dark(scene.lab, host), "the host is cut again")
        assert scene.desk.irflow("halt", "--reason", "test", "--as", FIRST).code == 0
        try:
            on(scene.lab, halted, "nft delete table inet irflow")
            wait_for(lambda: dark(scene.lab, halted), "the host is cut again though all is halted")
            name = halted.name
            wait_for(lambda: any(f"isolation of {name}: gone; cut again" in one for one in channel.titles), "told")
        finally:
            assert scene.desk.irflow("resume", "--as", FIRST).code == 0


def test_the_responder_tries_an_unreachable_host_more_rarely_and_tells_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CHECK_EVERY", rules.CHECK_EVERY / 240)
    channel = Channel()
    host = scene.host("unreachable")
    seen, unseen = (len(scene.events(kind, "unreachable")) for kind in (Kind.LEASE_SEEN, Kind.LEASE_UNSEEN))
    on(scene.lab, host, "mv /root/.ssh/authorized_keys /root/.ssh/hidden")
    try:
        with responder(scene, channel):
            wait_for(lambda: len(scene.events(Kind.LEASE_UNSEEN, "unreachable")) == unseen + 1, "nobody gets in")
            on(scene.lab, host, "mv /root/.ssh/hidden /root/.ssh/authorized_keys")
            wait_for(lambda: len(scene.events(Kind.LEASE_SEEN, "unreachable")) == seen + 1, "it is seen again")
    finally:
        on(scene.lab, host, "[ ! -e /root/.ssh/hidden ] || mv /root/.ssh/hidden /root/.ssh/authorized_keys")
    assert len([one for one in channel.titles if f"{host.name} cannot be looked at" in one]) == 1
    assert len(scene.events(Kind.LEASE_UNSEEN, "unreachable")) == unseen + 1


# ---------------------------------------------------------------- the end of a lease, by a person


def test_a_person_releases_a_host_and_it_is_proved_and_stays_released(scene: Scene) -> None:
    host = scene.host("as recorded")
    done = scene.desk.irflow(
        "leases", "release", scene.number, host.name, "--yes", "--reason", "clean", "--as", FIRST, "--json"
    )
    assert done.code == 0, done.err
    (step,) = done.json["steps"]
    assert (step["key"], step["state"]) == (STEP.format(host.name), "undone")
    assert {one["name"] for one in step["checks"]} >= {"isolation is gone"}
    assert not dark(scene.lab, host)
    assert host.name not in {one.target for one in scene.desk.status(scene.number).leases.values()}
    found = scene.desk.irflow("leases", "reconcile", scene.number, "--json").json
    assert host.name not in {one["target"] for one in found}
    assert not dark(scene.lab, host)
