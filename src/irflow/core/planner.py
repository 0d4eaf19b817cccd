"""From a playbook's phase to a frozen plan: expressions are evaluated here and only here, guards are applied."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from irflow.core.action import Action, Registry
from irflow.core.alert import Trust
from irflow.core.errors import ConfigurationError, Refused
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.model import Json, parse_duration
from irflow.core.plan import Plan, PlanStep
from irflow.core.playbook import Phase, Playbook
from irflow.core.ports import Expressions
from irflow.core.runbook import Parameter, ParameterType, Runbook, Step

COMMANDER = "incident_commander"


@dataclass(frozen=True)
class Catalog:
    """All that planning reads: what was loaded from YAML, the actions and the inventory."""

    playbooks: Mapping[str, Playbook]
    runbooks: Mapping[str, Runbook]
    actions: Registry
    inventory: Inventory
    expressions: Expressions


@dataclass
class _Draft:
    """A plan being built.

    touched: the hosts that its mutating steps touch, by when they came; groups: the same within each group.
    calls: how often each runbook was called so far.
    """

    incident: Incident
    phase: str
    playbook: Playbook | None
    steps: list[PlanStep] = field(default_factory=list)
    touched: dict[str, int] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


def plan_phase(
    catalog: Catalog, incident: Incident, playbook: Playbook, phase: Phase, *, revision: int = 1,
    results: Mapping[str, Json] | None = None,
) -> Plan:  # fmt: skip
    """The plan of one phase.

    results: facts of finished steps by `runbook.step@target`, for expressions.
    Raises ConfigurationError (names the runbook and step) or Refused (a target the inventory does not have).
    """
    draft = _Draft(incident, phase.value, playbook)
    scope = {"incident": incident.model_dump(mode="json"), "results": dict(results or {})}
    before: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    for call in playbook.phases.get(phase, ()):
        if not call.parallel:
            before, together = together, ()
        given = {name: _value(catalog, value, scope) for name, value in call.arguments.items()}
        together = (*together, *_call(catalog, draft, call.runbook, given, scope, before))
        together = together or before
    return _freeze(draft, revision)


def plan_runbook(
    catalog: Catalog, incident: Incident, runbook: str, arguments: Mapping[str, Json], *, phase: str = "run-1"
) -> Plan:
    """The plan of a runbook that runs by itself, as `run-N` of its incident. Same errors."""
    draft = _Draft(incident, phase, None)
    _call(catalog, draft, runbook, arguments, {"incident": incident.model_dump(mode="json"), "results": {}}, ())
    return _freeze(draft, 1)


def _freeze(draft: _Draft, revision: int) -> Plan:
    name = draft.playbook.playbook if draft.playbook else None
    return Plan(
        incident=draft.incident.id, phase=draft.phase, revision=revision, playbook=name, steps=tuple(draft.steps)
    )


def _call(
    catalog: Catalog,
    draft: _Draft,
    name: str,
    given: Mapping[str, Json],
    scope: dict[str, Json],
    before: tuple[str, ...],
) -> tuple[str, ...]:
    """Add one runbook's steps; returns the keys that whatever follows must wait for. given: values, not expressions."""
    runbook = catalog.runbooks.get(name)
    if runbook is None:
        raise ConfigurationError(f"no runbook {name!r}", hint=f"There are {', '.join(sorted(catalog.runbooks))}")
    inner = {**scope, **arguments_of(runbook, given, catalog.inventory)}
    calls = draft.calls[name] = draft.calls.get(name, 0) + 1
    label = runbook.runbook if calls == 1 else f"{runbook.runbook}#{calls}"
    last_all, last_by_item, last_items = before, {}, None
    for step in runbook.steps:
        where = f"{runbook.runbook}.{step.id}"
        if step.when is not None and not _value(catalog, step.when, inner):
            continue
        items = _items(catalog, step, inner, where)
        keys: dict[str, str] = {}
        for item in items:
            here = inner if item is None else {**inner, "item": item}
            after = (last_by_item[str(item)],) if item is not None and items == last_items else last_all
            built = _step(catalog, draft, runbook, label, step, here, after, item)
            draft.steps.append(built)
            keys[str(item)] = built.key
        if keys:
            last_all, last_by_item, last_items = tuple(keys.values()), keys, items
    return last_all


def _items(catalog: Catalog, step: Step, scope: dict[str, Json], where: str) -> list[Json]:
    if step.for_each is None:
        return [None]
    items = _value(catalog, step.for_each, scope)
    if not isinstance(items, list | tuple):
        raise ConfigurationError(f"for_each of {where} gives no list", hint='Write for_each: "{{ hosts }}"')
    return list(dict.fromkeys(items))


def _value(catalog: Catalog, value: Json, scope: dict[str, Json]) -> Json:
    if isinstance(value, str):
        return catalog.expressions.evaluate(value, scope)
    if isinstance(value, dict):
        return {key: _value(catalog, one, scope) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(catalog, one, scope) for one in value]
    return value


def _step(
    catalog: Catalog, draft: _Draft, runbook: Runbook, label: str, step: Step, scope: dict[str, Json],
    after: tuple[str, ...], item: Json,
) -> PlanStep:  # fmt: skip
    common: dict[str, Any] = {
        "runbook": runbook.runbook, "step": step.id, "title": step.title, "after": after,
        "on_failure": step.on_failure, "timeout_s": step.timeout.total_seconds(),
    }  # fmt: skip
    key = f"{draft.phase}/{label}.{step.id}"
    if step.manual is not None:
        text = str(_value(catalog, step.manual, scope))
        return PlanStep(key=key, manual=text, role=step.role or COMMANDER, people=1, **common)
    action = catalog.actions.get(step.action or "")
    params = check_params(action, _value(catalog, step.arguments, scope), f"{runbook.runbook}.{step.id}")
    host = _target(catalog.inventory, action, params, key)
    suffix = host.name if host else (str(item) if item is not None else "")
    people, reasons = _guard(catalog.inventory, draft, runbook, step, action, host)
    return PlanStep(
        key=key + (f"@{suffix}" if suffix else ""), action=action.name, params=params,
        target=host.name if host else "", people=people, reasons=reasons,
        role=(step.approval or COMMANDER) if people else None, **common,
    )  # fmt: skip


def check_params(action: Action[Any], params: Json, where: str) -> dict[str, Json]:
    """An action's parameters, validated and in JSON form. Raises ConfigurationError naming step and field."""
    try:
        checked: dict[str, Json] = action.Params.model_validate(params).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        field_ = ".".join(str(part) for part in first["loc"]) or "with"
        raise ConfigurationError(f"{action.name} in {where}: {field_}: {first['msg']}") from None
    return checked


def _target(inventory: Inventory, action: Action[Any], params: dict[str, Json], key: str) -> Host | None:
    if not action.touches_host:
        return None
    name = params.get("host")
    host = inventory.hosts.get(name) if isinstance(name, str) else None
    if host is None:
        raise Refused(
            f"{key}: the inventory has no host {str(name)[:100]!r}", hint="Add it with its key: irflow hosts enrol"
        )
    return host


def _guard(
    inventory: Inventory, draft: _Draft, runbook: Runbook, step: Step, action: Action[Any], host: Host | None
) -> tuple[int, tuple[str, ...]]:
    """How many people must agree to a step, and why (DESIGN rule 9)."""
    reasons: list[str] = []
    waived = draft.incident.severity in (
        draft.playbook.auto_approve.get(f"{runbook.runbook}.{step.id}", ()) if draft.playbook else ()
    )
    if step.approval and not waived:
        reasons.append(f"the runbook asks for the {step.approval}")
    if action.needs_person:
        reasons.append(f"{action.name} always needs a person")
    if host is not None and draft.incident.trust is Trust.UNVERIFIED:
        reasons.append("the alert's sender is not verified")
    if host is None or not action.mutates:
        return (1 if reasons else 0), tuple(reasons)
    reasons += _caps(inventory, draft, host)
    if host.protected:
        reasons.append(f"{host.name} is protected")
    if host.own:
        reasons.append(f"irflow itself needs {host.name}: two people must agree")
    return (2 if host.own else 1 if reasons else 0), tuple(reasons)


def _caps(inventory: Inventory, draft: _Draft, host: Host) -> list[str]:
    """Caps apply to every host that is touched after the cap was reached."""
    reasons = []
    if draft.touched.setdefault(host.name, len(draft.touched)) >= inventory.caps.hosts:
        reasons.append(f"over the cap of {inventory.caps.hosts} hosts per incident")
    for group in host.groups:
        inside = draft.groups.setdefault(group, {})
        most = math.ceil(inventory.group_sizes[group] * inventory.caps.group_percent / 100)
        if inside.setdefault(host.name, len(inside)) >= most:
            reasons.append(f"over the cap of {inventory.caps.group_percent} % of group {group}")
    return reasons


# ---------------------------------------------------------------- runbook parameters


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
            values[name] = _typed(parameter, value, inventory)
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


def _typed(parameter: Parameter, value: Json, inventory: Inventory) -> Json:
    kind = parameter.type
    if kind is ParameterType.HOSTS:
        return _hosts(_strings(value), inventory)
    if kind is ParameterType.HOST:
        return _hosts([str(value)], inventory)[0]
    if kind is ParameterType.ADDRESSES:
        return [str(ipaddress.ip_network(one, strict=False)) for one in _strings(value)]
    if kind is ParameterType.DURATION:
        return parse_duration(value).total_seconds()
    if kind is ParameterType.STRINGS:
        return _strings(value)
    if kind is ParameterType.INTEGER:
        return int(value)
    if kind is ParameterType.BOOLEAN:
        if value not in (True, False, "true", "false", "yes", "no"):
            raise ValueError("expected true or false")
        return value in (True, "true", "yes")
    return str(value)
