"""What Vault itself makes and ends, one file per kind.

A new kind is one file with KIND, Params (what secrets.yaml says about it) and open_engine. A file that begins with `_`
is shared between several.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from irflow.core.engine_rotation import Engine
from irflow.core.errors import ConfigurationError
from irflow.core.model import Json, Noun
from irflow.core.rotation_means import Means


@cache
def _modules() -> dict[str, Any]:
    names = (one.name for one in iter_modules(__path__) if not one.name.startswith("_"))
    modules = (import_module(f"{__name__}.{name}") for name in names)
    return {module.KIND: module for module in modules}


def kinds() -> dict[str, type[Noun]]:
    """What each kind of engine wants to know."""
    return {kind: module.Params for kind, module in _modules().items()}


def open_engine(kind: str, params: dict[str, Json], means: Means) -> Engine:
    """An engine. Raises ConfigurationError for a kind there is not, or without Vault in irflow.yaml."""
    module = _modules().get(kind)
    if module is None:
        raise ConfigurationError(f"no engine of kind {kind!r}", hint=f"There are {', '.join(sorted(_modules()))}")
    if means.vault is None:
        raise ConfigurationError(f"{kind} needs Vault", where="irflow.yaml", hint="Write vault: {url: https://...}")
    engine: Engine = module.open_engine(module.Params(**params), means)
    return engine
