"""`irflow run` by hand: how much of it people decide, and why it is done."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from irflow.core.journal import Kind
from irflow.core.status import fold
from irflow.wiring import load, open_store
from tests.cli.conftest import Irflow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """One operator, who is at the keyboard, and no hosts."""
    home = tmp_path / "home"
    home.mkdir()
    login = pwd.getpwuid(os.getuid()).pw_name
    files = {
        "irflow.yaml": {}, "sources.yaml": {"sources": {}}, "inventory.yaml": {"hosts": {}},
        "operators.yaml": {"operators": {"ann": {"login": login, "roles": ["incident_commander"]}}},
    }  # fmt: skip
    for name, content in files.items():
        (home / name).write_text(json.dumps(content))
    return home


def phase_of(home: Path) -> tuple[str, list[str], list[str]]:
    """(mode of the plan, states of its first two steps, notes) of the only incident."""
    with open_store(load(home).settings) as store:
        ((found, _),) = store.incidents()
        events = store.events(found.id)
    status = fold(events)
    plan = status.plan("run-1")
    assert plan is not None
    states = [status.step(step.key).state.value for step in plan.steps[:2]]
    return plan.mode.value, states, [str(one.data["text"]) for one in events if one.kind == Kind.NOTE]


@pytest.mark.parametrize(
    ("mode", "states"),
    [
        ("automatic", ["done", "done"]),
        ("approve", ["awaiting_approval", "pending"]),
        ("step", ["awaiting_approval", "pending"]),
    ],
)
def test_the_mode_of_a_run_says_how_much_of_it_people_decide(
    irflow: Irflow, home: Path, mode: str, states: list[str]
) -> None:
    done = irflow("run", "post-incident-review", "--local", "--mode", mode, "--reason", "a look back")
    assert done.code == 3, done.err
    assert phase_of(home) == (mode, states, [f"post-incident-review (run-1, {mode}): a look back"])


def test_without_a_reason_nothing_is_noted_and_an_unknown_mode_is_refused(irflow: Irflow, home: Path) -> None:
    assert irflow("run", "post-incident-review", "--local", "--mode", "fast").code == 2
    assert irflow("run", "post-incident-review", "--local", "--yes").code == 3
    assert phase_of(home) == ("automatic", ["done", "done"], [])
