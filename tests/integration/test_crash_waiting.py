"""kill -9 while a decision waits: it is still asked, once, and answering it goes on where the run had stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from irflow.core.journal import Kind
from irflow.core.questions import Question, questions
from irflow.core.status import State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.services.codes import Phones
from tests.services.irflow_site import until
from tests.services.irflow_stack import Running, running_stack

pytestmark = pytest.mark.timeout(600)

VICTIMS = (("worker",), ("web",), ("responder",), ("prefect",), ("worker", "web", "responder", "prefect"))
ISOLATE = "containment/isolate-host.isolate"
FORM_S = 120.0
PROVEN_S = 120.0
COMMANDER = "first-responder"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("waiting")
    soon = {"claim_stale": "3s", "restart_after": "3s"}
    with (
        Lab.up(len(VICTIMS), folder / "lab", level=Level.ROOT) as lab,
        running_stack(folder / "home", lab, responder=soon) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def phones(stack: Running) -> Phones:
    """One-time codes for the operators; flow processes read the file anew."""
    made = Phones()
    made.for_all(stack.site.home)
    return made


def waiting(stack: Running, incident: str) -> Question | None:
    return next(iter(questions(stack.site.status(incident))), None)


def suspended(stack: Running, number: str) -> list[dict[str, object]]:
    try:
        return stack.runs(number, "PAUSED")
    except httpx.HTTPError:
        return []


def outlives(stack: Running, phones: Phones, host: LabHost, victims: tuple[str, ...]) -> None:
    incident = stack.alert(host.name, severity="high")
    number = stack.site.status(incident).incident.number
    until(lambda: len(suspended(stack, number)) == 1, FORM_S, lambda: stack.site.story(incident))
    (before,) = suspended(stack, number)
    asked = waiting(stack, incident)
    assert asked is not None

    pids = {name: stack.pid(name) for name in victims}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    for name, pid in pids.items():
        stack.back(name, pid)

    assert len(stack.runs(number, "PAUSED")) == 1, [(one["state"], one["id"]) for one in stack.runs(number)]
    (after,) = stack.runs(number, "PAUSED")
    assert (after["id"], waiting(stack, incident)) == (before["id"], asked)
    answer = {"decision": "proceed", "operator": COMMANDER, "code": phones.code(COMMANDER)}
    reply = stack.prefect("POST", f"/flow_runs/{after['id']}/resume", {"run_input": answer})
    assert reply["status"] == "ACCEPT"
    key = f"{ISOLATE}@{host.name}"
    until(
        lambda: stack.site.status(incident).step(key).state is State.DONE,
        PROVEN_S,
        lambda: stack.site.story(incident),
    )
    assert stack.site.isolation(host).tables == 1
    assert len(stack.site.events(incident, Kind.PERSON_ASKED, "isolate-host.isolate")) == 1
    assert len(stack.site.events(incident, Kind.APPROVAL_GIVEN)) == 1
    assert len(stack.site.events(incident, Kind.STEP_INTENT, "isolate-host.isolate")) == 1
    (given,) = stack.site.status(incident).approvals
    assert (given.operator, given.method) == (COMMANDER, "totp")


def test_a_decision_that_waits_outlives_kill_9_of_each_process_and_of_all(stack: Running, phones: Phones) -> None:
    for host, victims in zip(stack.site.lab.hosts, VICTIMS, strict=True):
        outlives(stack, phones, host, victims)
    assert stack.site.verified() == []
