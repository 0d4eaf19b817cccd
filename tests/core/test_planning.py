"""Planning: what becomes a step, what waits for what, and when a person is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from irflow.core.alert import Trust
from irflow.core.errors import ConfigurationError, Refused
from irflow.core.incident import Incident
from irflow.core.inventory import Caps
from irflow.core.plan import Plan
from irflow.core.planner import plan_phase, plan_runbook
from irflow.core.playbook import Phase
from irflow.core.severity import Severity
from tests.fakes.world import PLAYBOOK, World, host, world


def plan(here: World, *names: str, phase: Phase = Phase.CONTAINMENT, **more: Any) -> Plan:
    incident = here.incident(*names, **more)
    return plan_phase(here.engine.catalog, incident, PLAYBOOK, phase)


def people(made: Plan) -> dict[str, int]:
    return {step.target: step.people for step in made.steps if step.step == "cut"}


def test_each_host_goes_its_own_way_and_the_call_to_the_owner_waits_for_all(tmp_path: Path) -> None:
    made = plan(world(tmp_path, host("a"), host("b")), "a", "b")
    assert [(step.key, step.after) for step in made.steps] == [
        ("containment/cut-off.look@a", ()),
        ("containment/cut-off.look@b", ()),
        ("containment/cut-off.cut@a", ("containment/cut-off.look@a",)),
        ("containment/cut-off.cut@b", ("containment/cut-off.look@b",)),
        ("containment/cut-off.tell", ("containment/cut-off.cut@a", "containment/cut-off.cut@b")),
    ]


def test_the_same_input_gives_the_same_digest_and_another_target_another(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), host("b"))
    incident = here.incident("a")
    one, same = (plan_phase(here.engine.catalog, incident, PLAYBOOK, Phase.CONTAINMENT) for _ in range(2))
    other = plan_phase(
        here.engine.catalog, incident.model_copy(update={"hosts": ("a", "b")}), PLAYBOOK, Phase.CONTAINMENT
    )
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("more", "caps", "flags", "needed"),
    [
        ({}, Caps(), {}, 0),
        ({"severity": Severity.HIGH}, Caps(), {}, 1),
        ({"trust": Trust.UNVERIFIED}, Caps(), {}, 1),
        ({}, Caps(), {"protected": True}, 1),
        ({}, Caps(), {"own": True}, 2),
        ({}, Caps(hosts=0), {}, 1),
        ({}, Caps(group_percent=0), {"groups": ("web",)}, 1),
    ],
)
def test_when_a_person_must_agree(
    tmp_path: Path, more: dict[str, Any], caps: Caps, flags: dict[str, Any], needed: int
) -> None:
    made = plan(world(tmp_path, host("a", **flags), caps=caps), "a", **more)
    assert people(made) == {"a": needed}
    assert all(bool(step.reasons) == bool(step.people) for step in made.steps if step.manual is None)


def test_hosts_over_the_cap_wait_while_those_under_it_do_not(tmp_path: Path) -> None:
    made = plan(world(tmp_path, host("a"), host("b"), host("c"), caps=Caps(hosts=2)), "a", "b", "c")
    assert people(made) == {"a": 0, "b": 0, "c": 1}


def test_reading_from_a_host_waits_too_when_the_sender_is_not_verified(tmp_path: Path) -> None:
    made = plan(world(tmp_path, host("a")), "a", trust=Trust.UNVERIFIED)
    assert [step.people for step in made.steps if step.step == "look"] == [1]


def test_no_playbook_can_waive_what_always_needs_a_person(tmp_path: Path) -> None:
    made = plan(world(tmp_path, host("a")), "a", phase=Phase.RECOVERY)
    assert [step.people for step in made.steps] == [1]


def test_a_host_that_the_inventory_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no host 'x'.*hosts enrol"):
        plan(world(tmp_path, host("a")), "x")


@pytest.mark.parametrize(
    ("runbook", "arguments", "message"),
    [
        ("nothing", {}, "no runbook 'nothing'"),
        ("cut-off", {}, "needs the parameter 'hosts'"),
        ("cut-off", {"hosts": "a", "colour": "red"}, "no parameter 'colour'"),
        ("cut-off", {"hosts": 7}, "list of texts"),
    ],
)
def test_a_run_by_hand_says_what_is_wrong_with_its_arguments(
    tmp_path: Path, runbook: str, arguments: dict[str, Any], message: str
) -> None:
    here = world(tmp_path, host("a"))
    with pytest.raises(ConfigurationError, match=message):
        plan_runbook(here.engine.catalog, here.incident("a"), runbook, arguments)


def test_alert_text_is_never_evaluated(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"))
    incident: Incident = here.incident("{{ incident.id }}")
    with pytest.raises(Refused, match=r"no host '\{\{ incident.id \}\}'"):
        plan_phase(here.engine.catalog, incident, PLAYBOOK, Phase.CONTAINMENT)
