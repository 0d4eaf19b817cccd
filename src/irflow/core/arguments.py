"""A runbook's parameters: what was given, typed, checked against the inventory, defaults filled in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from irflow.core.errors import ConfigurationError, Refused
from irflow.core.inventory import Inventory
from irflow.core.model import Json, parse_duration
from irflow.core.runbook import Parameter, ParameterType, Runbook


def arguments_of(runbook: Runbook, given: Mapping[str, Json], inventory: Inventory) -> dict[str, Json]:
    """A runbook's parameters with defaults filled in and types checked, as JSON values.

    Raises ConfigurationError for a missing, unknown or ill-typed one, Refused for a host not in the inventory.
    """
    unknown = sorted(set(given) - set(runbook.parameters))
    if unknown:
        raise ConfigurationError(
            f"runbook {runbook.runbook} has no parameter {unknown[0]!r}",
            hint=f"It has {', '.join(runbook.parameters) or 'none'}",
        )
    values: dict[str, Json] = {}
    for name, parameter in runbook.parameters.items():
        value = given.get(name, parameter.default)
        if value is None:
            if parameter.required:
                raise ConfigurationError(f"runbook {runbook.runbook} needs the parameter {name!r}")
            values[name] = [] if parameter.type.value.endswith("s") else None
            continue
        try:
            values[name] = typed(parameter, value, inventory)
        except ValueError as error:
            raise ConfigurationError(f"runbook {runbook.runbook}, parameter {name!r}: {error}") from None
    return values


def _strings(value: Json) -> list[str]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return list(value)
    raise ValueError("expected a list of texts")


def _hosts(texts: Iterable[str], inventory: Inventory) -> list[str]:
    known, unknown = inventory.resolve(tuple(texts))
    if unknown:
        raise Refused(f"the inventory has no host {unknown[0][:100]!r}", hint="Add it with its key: irflow hosts enrol")
    return list(known)


def _each(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list | tuple) else [value]


def typed(parameter: Parameter, value: Json, inventory: Inventory | None = None) -> Json:
    """One value as its type says. inventory: for hosts alone. Raises ValueError, Refused for an unknown host."""
    kind = parameter.type
    if parameter.choices and any(one not in parameter.choices for one in _each(value)):
        raise ValueError(f"one of {', '.join(parameter.choices)}")
    if inventory is not None and kind is ParameterType.HOSTS:
        return _hosts(_strings(value), inventory)
    if inventory is not None and kind is ParameterType.HOST:
        return _hosts([str(value)], inventory)[0]
    if kind is ParameterType.ADDRESSES:
        return [str(ipaddress.ip_network(one, strict=False)) for one in _strings(value)]
    if kind is ParameterType.DURATION:
        return parse_duration(value).total_seconds()
    if kind is ParameterType.STRINGS:
        return _strings(value)
    if kind is ParameterType.INTEGER:
        try:
            return int(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError("expected a whole number") from None
    if kind is ParameterType.BOOLEAN:
        if value not in (True, False, "true", "false", "yes", "no"):
            raise ValueError("expected true or false")
        return value in (True, "true", "yes")
    return str(value)
