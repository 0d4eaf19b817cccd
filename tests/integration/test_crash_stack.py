"""kill -9 of each process of the whole stack, Prefect stopped, runs forced twice: one cut, nothing open, nothing lost.

One stack for all; each case has a host of its own and sends one signed alert about it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from irflow.core.journal import Event, Kind
from irflow.core.status import State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.services.irflow_site import until
from tests.services.irflow_stack import Running, running_stack

pytestmark = pytest.mark.timeout(300)

ISOLATE = "isolate-host.isolate"
CASES = 8
PROVEN_S = 40.0
SETTLED_S = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("stack")
    soon = {"claim_stale": "3s", "restart_after": "3s"}
    with (
        Lab.up(CASES, folder / "lab", level=Level.ROOT) as lab,
        running_stack(folder / "home", lab, responder=soon) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def unused(stack: Running) -> Iterator[LabHost]:
    return iter(stack.site.lab.hosts)


@pytest.fixture
def host(unused: Iterator[LabHost]) -> LabHost:
    """A host that no case has touched yet."""
    return next(unused)


def proven(stack: Running, incident: str) -> list[Event]:
    """Outcomes of the cut that come with a lease."""
    return [one for one in stack.site.events(incident, Kind.STEP_OUTCOME, ISOLATE) if one.data["leases"]]


def settled(stack: Running, *runs: str) -> bool:
    """Whether each of these runs has ended, or shows a form and waits."""
    return {stack.run_state(one) for one in runs} <= {"COMPLETED", "PAUSED"}


def wait_proven(stack: Running, incident: str) -> None:
    until(lambda: proven(stack, incident), PROVEN_S, "the isolation is proven")


def prefect_runs(stack: Running, incident: str, phase: str) -> list[Event]:
    started = stack.site.events(incident, Kind.RUN_STARTED)
    return [one for one in started if one.data["executor"] == "prefect" and one.data["phase"] == phase]


def wait_adopted(stack: Running, incident: str) -> None:
    """Until Prefect has taken containment up, and gone through it."""
    until(lambda: prefect_runs(stack, incident, "containment"), SETTLED_S, lambda: stack.site.story(incident))


def at_rest(stack: Running, incident: str) -> bool:
    """Whether only a person can go on: detection is over, and containment waits for a call."""
    status = stack.site.status(incident)
    detection, containment = (status.phases.get(one) for one in ("detection", "containment"))
    return bool(
        detection and detection.ended_at and containment and containment.waiting_since
        and not stack.site.open_intents(incident)
    )  # fmt: skip


def check_the_end(stack: Running, host: LabHost, incident: str) -> None:
    """What must hold after every case, whatever died."""
    here = stack.site
    until(lambda: at_rest(stack, incident), SETTLED_S, lambda: f"it rests:\n{here.story(incident)}")
    assert (here.isolation(host).tables, here.isolation(host).kinds) == (1, ("lease",))
    assert here.dark(host)
    assert here.lets_responder_in(host)
    assert len(proven(stack, incident)) == 1
    status = here.status(incident)
    assert [lease.target for lease in status.leases.values()] == [host.name]
    assert here.isolation(host).epoch == here.events(incident, Kind.STEP_INTENT, ISOLATE)[-1].epoch
    states = {key: step.state for key, step in status.steps.items() if not key.endswith("tell-owner")}
    assert set(states.values()) <= {State.DONE, State.NOOP}, states
    assert len(status.alerts) == 1
    assert len(status.documents) == len([one for one in states if one.endswith("begin-report")]) == 1
    about_it = [one for one, _ in here.store.incidents(limit=1000) if host.name in one.hosts]
    assert [one.id for one in about_it] == [incident]
    assert here.verified() == []


def test_web_dies_right_after_the_commit_and_the_sender_tries_again(stack: Running, host: LabHost) -> None:
    stack.restart("web", "after:incident.opened")
    victim, letter = stack.pid("web"), stack.letter(host.name)
    with pytest.raises(httpx.TransportError):
        stack.post(letter)
    assert stack.struck("web")
    stack.back("web", victim)
    reply = stack.post(letter)
    assert reply.status_code == 202
    assert stack.post(letter).json() == reply.json()
    check_the_end(stack, host, reply.json()["alerts"][0]["incident_id"])


def test_the_responder_dies_between_intent_and_cut(stack: Running, host: LabHost) -> None:
    stack.restart("responder", "after:step.intent#2")
    victim = stack.pid("responder")
    incident = stack.alert(host.name)
    stack.back("responder", victim)
    assert stack.struck("responder")
    check_the_end(stack, host, incident)
    first, second = stack.site.events(incident, Kind.STEP_INTENT, ISOLATE)
    assert (first.actor, first.data["seen"]["state"], second.data["seen"]["state"]) == (
        "irflow:responder", "absent", "absent",
    )  # fmt: skip
    assert second.epoch > first.epoch


def test_a_flow_process_dies_with_an_intent_open(stack: Running, host: LabHost) -> None:
    stack.restart("worker", "after:step.intent")
    worker = stack.pid("worker")
    incident = stack.alert(host.name)
    until(lambda: stack.struck("worker"), PROVEN_S, "a flow process dies")
    assert stack.pid("worker") == worker, "the fault struck the worker, not its child"
    check_the_end(stack, host, incident)
    began = [one for one in stack.site.events(incident, Kind.STEP_INTENT, "triage") if one.actor == "irflow:flow"]
    assert len(began) == len({one.step for one in began}) + 1, "one step was begun again"


def test_the_worker_dies_while_it_runs_detection(stack: Running, host: LabHost) -> None:
    incident = stack.alert(host.name)
    until(
        lambda: "detection" in [one.data["phase"] for one in stack.site.events(incident, Kind.PHASE_STARTED)],
        PROVEN_S,
        "detection runs",
    )
    assert stack.flow_processes()
    victim = stack.kill("worker")
    stack.back("worker", victim)
    check_the_end(stack, host, incident)


def test_prefect_dies_just_before_the_alert(stack: Running, host: LabHost) -> None:
    victim = stack.kill("prefect")
    incident = stack.alert(host.name)
    wait_proven(stack, incident)
    stack.back("prefect", victim)
    wait_adopted(stack, incident)
    check_the_end(stack, host, incident)
    assert len(stack.site.events(incident, Kind.STEP_INTENT, ISOLATE)) == 1


def test_containment_is_proven_without_prefect_and_adopted_when_it_is_back(stack: Running, host: LabHost) -> None:
    stack.stop("prefect")
    incident = stack.alert(host.name)
    wait_proven(stack, incident)
    assert stack.site.dark(host)
    assert prefect_runs(stack, incident, "containment") == []
    stack.start("prefect")
    wait_adopted(stack, incident)
    check_the_end(stack, host, incident)
    (intent,) = stack.site.events(incident, Kind.STEP_INTENT, ISOLATE)
    assert intent.actor == "irflow:responder"
    assert intent.seq < prefect_runs(stack, incident, "containment")[0].seq


def test_runs_that_are_forced_twice_at_the_same_time_do_each_step_once(stack: Running, host: LabHost) -> None:
    settings = stack.site.home / "irflow.yaml"
    before = settings.read_text()
    settings.write_text(before.replace('"responder": {', '"responder": {"first_response": false,'))
    stack.restart("responder")
    try:
        incident = stack.alert(host.name)
        forced = [stack.force(incident, phase) for phase in ("containment", "detection") for _ in (1, 2)]
        check_the_end(stack, host, incident)
        until(lambda: settled(stack, *forced), SETTLED_S, "all forced runs end, or wait for a person")
        number = stack.site.status(incident).incident.number
        until(
            lambda: len(stack.runs(number, "PAUSED")) == 1,
            SETTLED_S,
            lambda: f"one of them asks: {[(r['name'], r['state']) for r in stack.runs(number)]}",
        )
    finally:
        settings.write_text(before)
        stack.restart("responder")
    begun = [one.step for one in stack.site.events(incident, Kind.STEP_INTENT)]
    assert sorted(begun) == sorted(set(begun))
    assert f"containment/{ISOLATE}@{host.name}" in begun
    assert {one.actor for one in stack.site.events(incident, Kind.STEP_INTENT)} == {"irflow:flow"}
    for phase in ("containment", "detection"):
        assert len(prefect_runs(stack, incident, phase)) >= 2, "the runs were not there at the same time"


def test_a_responder_that_was_paused_through_it_all_changes_nothing_when_it_wakes_up(
    stack: Running, host: LabHost
) -> None:
    paused = stack.pid("responder")
    os.kill(paused, signal.SIGSTOP)
    try:
        incident = stack.alert(host.name)
        other = stack.force(incident, "containment")
        wait_proven(stack, incident)
    finally:
        os.kill(paused, signal.SIGCONT)
    check_the_end(stack, host, incident)
    until(lambda: settled(stack, other), SETTLED_S, "the forced run ends, or waits for a person")
    (intent,) = stack.site.events(incident, Kind.STEP_INTENT, ISOLATE)
    assert intent.actor == "irflow:flow"
