"""Keeping leases: renewed in time, drift and silence told once, run out said so, taken back left alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions, taking_back
from irflow.core.action import Action, Change, Check, Context, Params, Proof, Registry
from irflow.core.approvals import Operator
from irflow.core.errors import HostUnreachable
from irflow.core.incident import Incident
from irflow.core.inventory import Caps
from irflow.core.journal import Kind
from irflow.core.model import Json, to_text
from irflow.core.phase import execute
from irflow.core.status import IncidentStatus
from irflow.responder.lease_look import LeaseLook
from irflow.responder.leases import LeaseKeeper, look_at_all
from tests.fakes.world import World, host, world
from tests.responder.test_reconcile import Hands

COMMANDER = Operator(name="o", login="root", roles=("incident_commander", "communications"))
HOUR = 3600.0


@dataclass
class Kernel:
    """Hosts that hold what they were told to, until when. dead: they do not answer. calls: what was asked, in order."""

    until: dict[str, datetime] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    expires: str = "host"
    gate: threading.Event | None = None
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def do(self, verb: str, name: str) -> None:
        with self.lock:
            self.calls.append((verb, name))
        if name in self.dead:
            raise HostUnreachable("no answer", where=name)

    def count(self, verb: str, name: str) -> int:
        return self.calls.count((verb, name))


class HoldParams(Params):
    host: str
    lease: float = HOUR


class Hold(Action[HoldParams]):
    """Holds a host of the kernel above; stands in for `test.cut` of the fake world."""

    name: ClassVar[str] = "test.cut"
    summary: ClassVar[str] = "hold"
    Params: ClassVar[type[Any]] = HoldParams
    lease: ClassVar[str | None] = "hold"

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def observe(self, params: HoldParams, context: Context) -> dict[str, Json]:
        kernel = self._kernel
        with kernel.lock:
            kernel.at_once += 1
            kernel.most_at_once = max(kernel.most_at_once, kernel.at_once)
        try:
            kernel.do("look", params.host)
            if kernel.gate:
                kernel.gate.wait(10)
        finally:
            with kernel.lock:
                kernel.at_once -= 1
        return {"held": self._held(params.host, context)}

    def _held(self, name: str, context: Context) -> bool:
        until = self._kernel.until.get(name)
        return until is not None and until > context.ports.clock.now()

    def plan(self, params: HoldParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        return () if seen["held"] else (Change(f"hold {params.host}", {"host": params.host}),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        return {}

    def verify(
        self, params: HoldParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        return self._proof(params, context, {"expires": self._kernel.expires})

    def _proof(self, params: HoldParams, context: Context, facts: dict[str, Json]) -> Proof:
        until = context.ports.clock.now() + timedelta(seconds=params.lease)
        self._kernel.until[params.host] = until
        lease = {"kind": "hold", "until": to_text(until), "seconds": params.lease}
        return Proof((Check("is held", True),), facts, (lease,))

    def renew(self, params: HoldParams, context: Context) -> Proof:
        self._kernel.do("renew", params.host)
        held = self._held(params.host, context)
        drift = "" if held else "expired" if params.host in self._kernel.until else "gone"
        return self._proof(params, context, {"drift": drift} if drift else {})

    def undo(self, change: Change, context: Context) -> Proof:
        name = change.data["host"]
        self._kernel.do("undo", name)
        self._kernel.until.pop(name, None)
        return Proof((Check("is open", True),), {}, ended_leases=("hold",))


@dataclass
class Watch:
    """One contained incident, its hosts, and a keeper whose clock the test moves."""

    here: World
    kernel: Kernel
    clock: Hands
    incident: Incident
    keeper: LeaseKeeper

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and the keeper do what is due then."""
        self.clock.move(seconds)
        self.keeper.keep(self.incident.id)
        self.settle()

    def settle(self) -> None:
        for _ in range(2000):
            if not self.keeper._busy:
                return
            threading.Event().wait(0.005)
        raise AssertionError("the keeper does not come to an end")

    @property
    def status(self) -> IncidentStatus:
        return self.here.engine.status(self.incident.id)

    def kinds(self) -> list[str]:
        """What was journalled of leases."""
        return [one.kind for one in self.here.store.events(self.incident.id) if one.kind.startswith("lease.")]

    def told(self) -> list[str]:
        return [item.payload["title"] for item in self.here.store.pending() if item.kind == "notify" and
                "hold of" in item.payload["title"]]  # fmt: skip


def watching(folder: Path, *names: str, kernel: Kernel | None = None) -> Watch:
    kernel, clock = kernel or Kernel(), Hands()
    here = world(folder, *(host(name) for name in names), clock=clock, caps=Caps(hosts=100))
    others = [one for one in here.engine.catalog.actions.all() if one.name != "test.cut"]
    object.__setattr__(here.engine.catalog, "actions", Registry([Hold(kernel), *others]))
    incident = here.incident(*names)
    with ThreadExecutor() as executor:
        execute(here.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")
    assert len(here.engine.status(incident.id).leases) == len(names)
    return Watch(here, kernel, clock, incident, LeaseKeeper(here.engine))


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Watch]:
    made = watching(tmp_path, "a")
    yield made
    made.keeper.close()


def test_a_lease_is_looked_at_every_minute_and_renewed_at_half_life(one: Watch) -> None:
    one.tick()
    assert one.kernel.count("look", "a") == 1, "containment's own"
    for _ in range(29):
        one.tick(60)
        one.tick(1)
        one.clock.move(-1)
    assert one.kernel.count("look", "a") == 30
    assert one.kinds() == [], "a look that finds all as recorded is no news"
    one.tick(60)
    assert one.kernel.count("renew", "a") == 1
    assert one.kinds() == [Kind.LEASE_RENEWED]
    (lease,) = one.status.leases.values()
    assert lease.until == one.clock.now() + timedelta(seconds=HOUR)
    assert one.told() == []


def test_drift_is_mended_journalled_and_told(one: Watch) -> None:
    del one.kernel.until["a"]
    one.tick(60)
    assert "a" in one.kernel.until
    assert one.kinds() == [Kind.LEASE_DRIFTED, Kind.LEASE_RENEWED]
    assert one.told() == [f"{one.incident.number}: hold of a: gone; in force again"]
    (lease,) = one.status.leases.values()
    assert (lease.drift, lease.drifted_at) == ("gone", one.clock.now())


def test_malware_that_comes_back_every_minute_is_journalled_each_time_and_told_every_ten_minutes(one: Watch) -> None:
    for _ in range(12):
        del one.kernel.until["a"]
        one.tick(60)
    assert one.kinds().count(Kind.LEASE_DRIFTED) == 12
    assert len(one.told()) == 2


def test_an_unreachable_host_is_told_once_tried_more_rarely_and_seen_again(one: Watch) -> None:
    one.kernel.dead.add("a")
    looks = one.kernel.count("look", "a")
    for _ in range(20):
        one.tick(60)
    assert one.kernel.count("look", "a") - looks <= 6
    assert one.kinds() == [Kind.LEASE_UNSEEN]
    assert len(one.told()) == 1
    one.kernel.dead.clear()
    for _ in range(10):
        one.tick(60)
    assert one.kinds()[:2] == [Kind.LEASE_UNSEEN, Kind.LEASE_SEEN]
    (lease,) = one.status.leases.values()
    assert lease.unseen_since is None


def test_people_hear_before_a_lease_runs_out_and_when_it_has_and_it_is_cut_again_when_the_host_is_back(
    one: Watch,
) -> None:
    one.kernel.dead.add("a")
    for _ in range(61):
        one.tick(60)
    assert one.kinds() == [Kind.LEASE_UNSEEN, Kind.LEASE_EXPIRING, Kind.LEASE_EXPIRED]
    heads = ("hold of a cannot be looked at: ", "hold of a runs out at ", "hold of a has run out, so the target may be")
    assert len(one.told()) == len(heads)
    for title, head in zip(one.told(), heads, strict=True):
        assert title.startswith(f"{one.incident.number}: {head}")
    assert one.status.leases == {}
    assert [lease.target for lease in one.status.expired.values()] == ["a"]
    one.kernel.dead.clear()
    one.tick(600)
    assert one.kinds()[-2:] == [Kind.LEASE_DRIFTED, Kind.LEASE_RENEWED]
    assert one.told()[-1].endswith("hold of a: expired; in force again")
    assert one.status.expired == {}


def test_what_only_irflow_can_end_stays_cut_while_it_cannot_be_reached_and_people_hear_that(tmp_path: Path) -> None:
    watch = watching(tmp_path, "a", kernel=Kernel(expires="irflow"))
    watch.kernel.dead.add("a")
    for _ in range(70):
        watch.tick(60)
    watch.keeper.close()
    assert watch.kinds() == [Kind.LEASE_UNSEEN, Kind.LEASE_EXPIRING]
    assert "only irflow can end it" in watch.told()[-1]
    assert len(watch.status.leases) == 1


def short(watch: Watch) -> None:
    """As it is after nobody agreed in time: the step holds for a short while."""
    step = watch.status.step("containment/cut-off.cut@a")
    step.short_s, step.short_for = HOUR, "digest"


def test_a_short_hold_that_only_irflow_can_end_is_opened_when_its_time_is_over(tmp_path: Path) -> None:
    watch = watching(tmp_path, "a", kernel=Kernel(expires="irflow"))
    short(watch)
    for _ in range(59):
        watch.tick(60)
    assert watch.kernel.count("renew", "a") == watch.kernel.count("undo", "a") == 0
    watch.tick(60)
    watch.keeper.close()
    assert watch.kernel.count("undo", "a") == 1
    assert watch.kinds() == [Kind.LEASE_EXPIRING, Kind.LEASE_EXPIRED]
    (told,) = watch.told()
    assert "has ended: nobody agreed to it in time; it was opened again, proved" in told


def test_what_a_person_took_back_is_left_alone(one: Watch) -> None:
    plan = taking_back.look(one.here.store, one.here.engine.catalog, one.incident.id)
    taking_back.TakeBack(one.here.engine, "operator:o").run(plan)
    calls = len(one.kernel.calls)
    for _ in range(60):
        one.tick(60)
    assert len(one.kernel.calls) == calls
    assert "a" not in one.kernel.until


def test_a_lease_of_another_process_that_is_at_the_step_is_no_drift(one: Watch) -> None:
    step = "containment/cut-off.cut@a"
    claim = one.here.store.transact(lambda tx: tx.claim(one.incident.id, step, "another", stale_s=10))
    assert claim is not None
    del one.kernel.until["a"]
    one.clock.move(60)
    one.here.store.heartbeat("another")
    one.tick()
    assert one.kinds() == []
    one.here.store.transact(lambda tx: tx.release(claim))
    one.tick(60)
    assert one.kinds() == [Kind.LEASE_DRIFTED, Kind.LEASE_RENEWED]


def test_all_hosts_are_looked_at_at_once_and_a_hung_one_delays_no_other(tmp_path: Path) -> None:
    names = [f"h{number}" for number in range(20)]
    watch = watching(tmp_path, *names)
    watch.kernel.gate = threading.Event()
    watch.clock.move(60)
    watch.keeper.keep(watch.incident.id)
    for _ in range(500):
        if watch.kernel.at_once == len(names):
            break
        threading.Event().wait(0.01)
    watch.clock.move(120)
    watch.keeper.keep(watch.incident.id)
    watch.kernel.gate.set()
    watch.settle()
    watch.keeper.close()
    assert watch.kernel.most_at_once == len(names)
    assert all(watch.kernel.count("look", name) == 2 for name in names), "nobody is looked at twice at a time"


def test_a_reconciliation_by_hand_sees_everything_whatever_the_schedule(tmp_path: Path) -> None:
    watch = watching(tmp_path, "a", "b", "c")
    del watch.kernel.until["b"]
    watch.kernel.dead.add("c")
    look = LeaseLook(watch.here.engine, "irflow:cli", 1.0)
    found = look_at_all(look, [watch.status], parallel=8)
    assert [(one.lease.target, one.finding.value, one.done) for _, one in found] == [
        ("a", "as recorded", ""), ("b", "gone", "in force again"), ("c", "unreachable", ""),
    ]  # fmt: skip


def test_a_closed_incident_has_no_leases_to_keep(one: Watch) -> None:
    plan = taking_back.look(one.here.store, one.here.engine.catalog, one.incident.id)
    taking_back.TakeBack(one.here.engine, "operator:o").run(plan)
    one.here.store.transact(lambda tx: decisions.close(tx, one.incident.id, COMMANDER, "over"))
    one.tick(3600)
    assert one.kernel.count("renew", "a") == 0
