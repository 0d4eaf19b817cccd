"""What irflow can do to a target: one file per action, seeing nothing but the core."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import Any

from irflow.core.action import Action, Registry
from irflow.core.errors import ConfigurationError

GROUP = "irflow.actions"
"""Entry point group in which other packages name their actions: `noun.verb = "package.module:Class"`."""


def builtin_actions() -> tuple[Action[Any], ...]:
    """The actions of this folder, each file's own; a file that begins with `_` is shared between several."""
    names = sorted(one.name for one in iter_modules(__path__) if not one.name.startswith("_"))
    return tuple(action for name in names for action in _of(name))


def _of(name: str) -> Iterator[Action[Any]]:
    module = import_module(f"{__name__}.{name}")
    for one in vars(module).values():
        if isinstance(one, type) and issubclass(one, Action) and one.__module__ == module.__name__:
            yield one()


def load_actions() -> Registry:
    """All actions: those of this folder and those of other packages.

    Raises ConfigurationError naming an entry point that does not load, is no action, or repeats a name.
    """
    return Registry([*builtin_actions(), *(_load(one) for one in entry_points(group=GROUP))])


def _load(entry: EntryPoint) -> Action[Any]:
    where = f"{entry.dist.name if entry.dist else 'an unknown package'}, entry point {GROUP}: {entry.name}"
    hint = "Mend or remove that package"
    try:
        found = entry.load()
        action = found() if isinstance(found, type) else None
    except Exception as error:
        raise ConfigurationError(
            f"the action {entry.name} does not load: {type(error).__name__}: {error}", where=where, hint=hint
        ) from error
    if not isinstance(action, Action) or getattr(action, "name", None) != entry.name:
        raise ConfigurationError(
            f"{entry.value} is not an action called {entry.name}",
            where=where,
            hint="It must be a subclass of irflow.core.action.Action whose `name` is the entry point's",
        )
    return action
