"""Which actions there are, and that a broken one of another package stops everything, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

import irflow.actions
from irflow.actions import builtin_actions, load_actions
from irflow.actions.host_release import HostRelease
from irflow.core.action import Action
from irflow.core.errors import ConfigurationError


def test_every_file_is_an_action_of_its_own_name() -> None:
    names = [action.name for action in builtin_actions()]
    files = [type(action).__module__.rpartition(".")[2] for action in builtin_actions()]
    assert files == [name.replace(".", "_") for name in names]
    assert len(set(names)) == len(names) >= 8


@pytest.mark.parametrize("action", builtin_actions(), ids=lambda action: action.name)
def test_every_action_says_what_it_does_and_whether_it_can_be_taken_back(action: Action[Any]) -> None:
    assert action.summary
    assert type(action).__doc__
    assert type(action).Params.__doc__
    assert action.reversible == (type(action).undo is not Action.undo)
    assert action.reversible or action.irreversible_because
    assert (action.lease is None) or type(action).renew is not Action.renew
    assert ("host" in type(action).Params.model_fields) == action.touches_host


Offer = Callable[[str, str], None]


class Extra(HostRelease):
    name = "extra.action"


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Offer:
    """Install an entry point of another package that is not really there."""
    module = ModuleType("somebody_elses")
    module.Extra, module.nothing = Extra, 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebody_elses", module)

    def install(name: str, value: str) -> None:
        one = EntryPoint(name, value, irflow.actions.GROUP)
        monkeypatch.setattr(irflow.actions, "entry_points", lambda group: [one] if group == one.group else [])

    return install


def test_other_packages_add_actions(offer: Offer) -> None:
    offer("extra.action", "somebody_elses:Extra")
    assert load_actions().get("extra.action").name == "extra.action"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bad.module", "no_such_module:X", "bad.module"),
        ("bad.attribute", "somebody_elses:Missing", "bad.attribute"),
        ("no.class", "somebody_elses:nothing", "no.class"),
        ("other.name", "somebody_elses:Extra", "other.name"),
        ("host.release", "irflow.actions.host_release:HostRelease", "host.release"),
    ],
)
def test_a_broken_or_repeated_one_is_named(offer: Offer, name: str, value: str, said: str) -> None:
    offer(name, value)
    with pytest.raises(ConfigurationError, match=said):
        load_actions()
