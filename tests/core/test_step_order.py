"""What waits for what within a runbook."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.core.planner import plan_runbook
from irflow.core.runbook import Runbook
from tests.fakes.world import host, world


def runbook(*steps: dict[str, Any]) -> Runbook:
    """Steps on each host unless they say otherwise."""
    common = {"title": "t", "action": "test.look", "for_each": "{{ hosts }}", "with": {"host": "{{ item }}"}}
    return Runbook.model_validate(
        {
            "runbook": "r", "title": "t",
            "parameters": {
                "hosts": {"type": "hosts"}, "more": {"type": "hosts"}, "wanted": {"type": "boolean", "default": False},
            },
            "steps": [{**common, **one} for one in steps],
        }
    )  # fmt: skip


def order(tmp_path: Path, one: Runbook, **arguments: Any) -> dict[str, set[str]]:
    """Step@target -> those it waits for."""
    here = world(tmp_path, host("a"), host("b"))
    catalog = replace(here.engine.catalog, runbooks={"r": one})
    made = plan_runbook(catalog, here.incident("a"), "r", {"hosts": "a,b", **arguments})
    return {step.key.partition(".")[2]: {key.partition(".")[2] for key in step.after} for step in made.steps}


def test_without_a_word_each_step_waits_for_the_one_before_on_its_own_host(tmp_path: Path) -> None:
    found = order(tmp_path, runbook({"id": "x"}, {"id": "y"}))
    assert found == {"x@a": set(), "x@b": set(), "y@a": {"x@a"}, "y@b": {"x@b"}}


def test_steps_that_wait_for_the_same_one_run_side_by_side(tmp_path: Path) -> None:
    found = order(tmp_path, runbook({"id": "x"}, {"id": "y", "after": ["x"]}, {"id": "z", "after": ["x"]}))
    assert (found["y@a"], found["z@a"]) == ({"x@a"}, {"x@a"})


def test_a_step_may_wait_for_several_and_one_that_waits_for_none_begins_at_once(tmp_path: Path) -> None:
    found = order(tmp_path, runbook({"id": "x"}, {"id": "y", "after": []}, {"id": "z", "after": ["x", "y"]}))
    assert (found["y@a"], found["z@b"]) == (set(), {"x@b", "y@b"})


def test_a_host_that_the_step_before_did_not_have_waits_for_all_of_it(tmp_path: Path) -> None:
    found = order(tmp_path, runbook({"id": "x"}, {"id": "y", "for_each": "{{ more }}"}), hosts="a", more="a,b")
    assert (found["y@a"], found["y@b"]) == ({"x@a"}, {"x@a"})


def test_behind_a_step_that_is_left_out_one_waits_for_what_came_before_it(tmp_path: Path) -> None:
    found = order(tmp_path, runbook({"id": "x"}, {"id": "y", "when": "{{ wanted }}"}, {"id": "z", "after": ["y"]}))
    assert found["z@a"] == {"x@a"}


def test_a_step_without_a_list_waits_for_every_host(tmp_path: Path) -> None:
    alone: dict[str, Any] = {"for_each": None, "action": None, "with": {}, "manual": "call", "role": "communications"}
    found = order(tmp_path, runbook({"id": "x"}, {"id": "y", "after": ["x"]}, {"id": "z", "after": ["x"], **alone}))
    assert found["z"] == {"x@a", "x@b"}


def test_what_follows_a_runbook_waits_for_all_its_loose_ends() -> None:
    one = runbook({"id": "x"}, {"id": "y", "after": ["x"]}, {"id": "z", "after": ["x"]})
    assert one.last() == ("y", "z")


@pytest.mark.parametrize("after", [["y"], ["z"], ["nothing"]])
def test_a_step_waits_only_for_earlier_ones(after: list[str]) -> None:
    with pytest.raises(ValidationError, match=f"step 'y' comes after '{after[0]}', which is no earlier step"):
        runbook({"id": "x"}, {"id": "y", "after": after}, {"id": "z"})
