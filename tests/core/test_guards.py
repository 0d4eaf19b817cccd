"""Guards: who must agree, who must be two, and what is never done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from irflow.core.errors import Refused
from irflow.core.inventory import Caps, Host
from irflow.core.plan import Plan
from irflow.core.planner import Catalog, plan_phase, plan_runbook
from irflow.core.playbook import Phase
from irflow.core.runbook import Runbook
from irflow.core.severity import Severity
from tests.fakes.world import PLAYBOOK, World, host, world

BLOCK = Runbook.model_validate(
    {
        "runbook": "block",
        "title": "Block",
        "parameters": {"hosts": {"type": "hosts", "required": True}, "addresses": {"type": "addresses"}},
        "steps": [
            {
                "id": "block", "title": "Block", "action": "test.cut", "for_each": "{{ hosts }}",
                "with": {"host": "{{ item }}"}, "when": "{{ addresses }}",
            }
        ],
    }
)  # fmt: skip


def plan(
    here: World, *names: str, touched: tuple[str, ...] = (), rule: dict[str, Any] | None = None, **more: Any
) -> Plan:
    """Containment of an incident about these hosts. rule: an approval rule for the cut."""
    playbook = PLAYBOOK
    if rule is not None:
        playbook = type(PLAYBOOK).model_validate(
            PLAYBOOK.model_dump(by_alias=True) | {"auto_approve": {}, "approvals": {"cut-off.cut": rule}}
        )
    incident = here.incident(*names, **more)
    return plan_phase(here.engine.catalog, incident, playbook, Phase.CONTAINMENT, touched=touched)


def people(made: Plan) -> dict[str, int]:
    return {step.target: step.people for step in made.steps if step.step == "cut"}


@pytest.mark.parametrize(
    ("criticality", "severity", "needed"),
    [
        ("low", "high", 0),
        ("high", "high", 0),
        ("critical", "high", 1),
        ("critical", "critical", 0),
        ("medium", "low", 1),
    ],
)
def test_a_waiver_holds_for_no_host_that_matters_more_than_the_incident(
    tmp_path: Path, criticality: str, severity: str, needed: int
) -> None:
    here = world(tmp_path, host("a", criticality=criticality))
    made = plan(here, "a", rule={"waived_for": ["critical", "high", "low"]}, severity=Severity(severity))
    assert people(made) == {"a": needed}


def test_above_a_number_of_hosts_two_people_must_agree_whatever_is_waived(tmp_path: Path) -> None:
    here = world(tmp_path, *map(host, "abc"))
    made = plan(here, "a", "b", "c", rule={"waived_for": ["critical"], "two_people_above": 2})
    assert people(made) == {"a": 0, "b": 0, "c": 2}
    assert any("above 2 hosts two people" in reason for reason in made.steps[-2].reasons)


def test_the_playbook_may_name_another_role_than_the_runbook(tmp_path: Path) -> None:
    made = plan(world(tmp_path, host("a")), "a", rule={"role": "security_officer"})
    assert [step.role for step in made.steps if step.step == "cut"] == ["security_officer"]


def test_hosts_that_the_incident_changed_before_count_for_the_cap_and_are_not_asked_for_again(tmp_path: Path) -> None:
    here = world(tmp_path, *map(host, "abc"), caps=Caps(hosts=2))
    assert people(plan(here, "c", "a", "b", touched=("a", "b"))) == {"c": 1, "a": 0, "b": 0}


def test_hosts_that_left_the_inventory_still_count(tmp_path: Path) -> None:
    here = world(tmp_path, host("a"), caps=Caps(hosts=1))
    assert people(plan(here, "a", touched=("gone",))) == {"a": 1}


def test_a_jump_host_is_irflow_s_own_without_saying_so(tmp_path: Path) -> None:
    here = world(tmp_path, host("door"), host("b", jump="door"))
    made = plan(here, "door", "b")
    assert people(made) == {"door": 2, "b": 0}


# ---------------------------------------------------------------- addresses


def _blocking(here: World) -> Catalog:
    return replace(here.engine.catalog, runbooks={**here.engine.catalog.runbooks, "block": BLOCK})


def _own(**more: Any) -> Host:
    return host("a", **more)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.9.0.7", "inside irflow's own management network 10.9.0.0/24 of a"),
        ("10.0.0.0/8", "inside irflow's own management network 10.9.0.0/24 of a"),
        ("fd00::9", "inside irflow's own management network fd00::/64 of a"),
        ("192.0.2.1", "192.0.2.1/32 is a, which irflow itself needs"),
        ("0.0.0.0/0", "is everything"),
    ],
)
def test_a_person_who_asks_to_block_irflow_itself_is_refused(tmp_path: Path, address: str, why: str) -> None:
    here = world(tmp_path, _own(own=True, management=("10.9.0.0/24", "fd00::/64")))
    with pytest.raises(Refused, match=why):
        plan_runbook(_blocking(here), here.incident("a"), "block", {"hosts": "a", "addresses": address})


def test_an_alert_that_names_such_an_address_is_followed_but_for_that_and_the_plan_says_so(tmp_path: Path) -> None:
    here = world(tmp_path, host("a", management=("10.9.0.0/24",)))
    playbook = type(PLAYBOOK).model_validate(
        PLAYBOOK.model_dump(by_alias=True)
        | {
            "phases": {
                "containment": [
                    {
                        "runbook": "block",
                        "with": {"hosts": "{{ incident.hosts }}", "addresses": "{{ incident.addresses }}"},
                    }
                ]
            }
        }
    )
    incident = here.incident("a", addresses=("10.9.0.7", "203.0.113.9"))
    made = plan_phase(_blocking(here), incident, playbook, Phase.CONTAINMENT)
    assert made.refusals == ("block: 10.9.0.7/32 is inside irflow's own management network 10.9.0.0/24 of a",)
    assert [step.key for step in made.steps] == ["containment/block.block@a"]
    without = plan_phase(_blocking(here), here.incident("a"), playbook, Phase.CONTAINMENT)
    assert (without.steps, without.refusals) == ((), ())
