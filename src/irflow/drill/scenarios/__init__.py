"""The scenarios, one a file, found by being here."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from irflow.core.errors import UsageError

if TYPE_CHECKING:
    from irflow.drill.scenario import Scenario


def names() -> tuple[str, ...]:
    """All names, without loading a scenario and the lab with it: a file is named after the one in it."""
    return tuple(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def load() -> dict[str, Scenario]:
    """All scenarios by name. Raises TypeError naming a file without one, ValueError for a name used twice."""
    from irflow.drill.scenario import Scenario

    found: dict[str, Scenario] = {}
    for module in pkgutil.iter_modules(__path__):
        scenario = getattr(import_module(f"{__name__}.{module.name}"), "SCENARIO", None)
        if not isinstance(scenario, Scenario):
            raise TypeError(f"{__name__}.{module.name} has no SCENARIO")
        if scenario.name in found:
            raise ValueError(f"{__name__}.{module.name}: there is a scenario {scenario.name!r} already")
        found[scenario.name] = scenario
    return found


def find(name: str) -> Scenario:
    """The scenario of that name. Raises UsageError that lists all."""
    known = load()
    if name not in known:
        raise UsageError(f"no scenario {name!r}", hint=f"There is {', '.join(known)}: irflow drill --list")
    return known[name]
