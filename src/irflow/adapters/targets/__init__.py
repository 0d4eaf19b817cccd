"""What asks for secrets, one file per kind.

A new kind is one file with KIND, Params (what secrets.yaml says about it) and open_target. A file that begins with `_`
is shared between several.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from irflow.core.errors import ConfigurationError
from irflow.core.model import Json, Noun
from irflow.core.rotation import Target
from irflow.core.rotation_means import Means


@cache
def _modules() -> dict[str, Any]:
    names = (one.name for one in iter_modules(__path__) if not one.name.startswith("_"))
    modules = (import_module(f"{__name__}.{name}") for name in names)
    return {module.KIND: module for module in modules}


def kinds() -> dict[str, type[Noun]]:
    """What each kind of target wants to know."""
    return {kind: module.Params for kind, module in _modules().items()}


def open_target(kind: str, params: dict[str, Json], means: Means) -> Target:
    """A target. Raises ConfigurationError for a kind there is not, and what the target's own check raises."""
    module = _modules().get(kind)
    if module is None:
        raise ConfigurationError(f"no target of kind {kind!r}", hint=f"There are {', '.join(sorted(_modules()))}")
    target: Target = module.open_target(module.Params(**params), means)
    return target
