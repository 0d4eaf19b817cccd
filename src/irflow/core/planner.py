"""From a playbook's phase to a frozen plan: expressions are evaluated here and only here, guards are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from irflow.core.action import Action, Registry
from irflow.core.arguments import arguments_of
from irflow.core.errors import ConfigurationError, Refused
from irflow.core.guards import Touched, people_needed, refuse_address
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.mode import Mode
from irflow.core.model import Json
from irflow.core.plan import Plan, PlanStep
from irflow.core.playbook import Phase, Playbook, rule_for
from irflow.core.ports import Expressions
from irflow.core.runbook import ParameterType, Runbook, Step

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
    """A plan being built. touched: hosts that the incident changes. calls: how often each runbook was called so far."""

    incident: Incident
    phase: str
    playbook: Playbook | None
    touched: Touched
    mode: Mode
    steps: list[PlanStep] = field(default_factory=list)
    refusals: dict[str, None] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ends:
    """What must be finished before whatever comes after a step may begin. by_item: the same for one item alone."""

    keys: tuple[str, ...]
    by_item: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, item: Json) -> tuple[str, ...]:
        """For one item of a list; all of it where the step before had no such item."""
        return self.by_item.get(str(item), self.keys) if item is not None else self.keys


def plan_phase(
    catalog: Catalog, incident: Incident, playbook: Playbook, phase: Phase, *, revision: int = 1,
    results: Mapping[str, Json] | None = None, touched: Iterable[str] = (),
) -> Plan:  # fmt: skip
    """The plan of one phase.

    results: facts of finished steps by `runbook.step@target`, for expressions. touched: hosts that the incident
    changed so far; they count for the caps. What must never be done is left out and stands in the plan's `refusals`.
    Raises ConfigurationError (names the runbook and step) or Refused (a target the inventory does not have).
    """
    draft = _Draft(incident, phase.value, playbook, Touched.of(catalog.inventory, touched), incident.mode)
    scope = _scope(catalog, incident, results or {})
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
    catalog: Catalog, incident: Incident, runbook: str, arguments: Mapping[str, Json], *, phase: str = "run-1",
    touched: Iterable[str] = (), mode: Mode = Mode.AUTOMATIC,
) -> Plan:  # fmt: skip
    """The plan of a runbook that runs by itself, as `run-N` of its incident. Same errors.

    What must never be done is refused here: the person who asked for it is there to be told.
    """
    draft = _Draft(incident, phase, None, Touched.of(catalog.inventory, touched), mode)
    _call(catalog, draft, runbook, arguments, _scope(catalog, incident, {}), ())
    if draft.refusals:
        raise Refused("; ".join(draft.refusals), hint="Leave it out")
    return _freeze(draft, 1)


def _scope(catalog: Catalog, incident: Incident, results: Mapping[str, Json]) -> dict[str, Json]:
    """What expressions see: the incident, earlier results, and the inventory's groups with their hosts."""
    return {
        "incident": incident.model_dump(mode="json"),
        "results": dict(results),
        "groups": {name: list(hosts) for name, hosts in catalog.inventory.groups.items()},
    }


def _freeze(draft: _Draft, revision: int) -> Plan:
    name = draft.playbook.playbook if draft.playbook else None
    return Plan(
        incident=draft.incident.id, phase=draft.phase, revision=revision, playbook=name, steps=tuple(draft.steps),
        refusals=tuple(draft.refusals), mode=draft.mode,
    )  # fmt: skip


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
    arguments = arguments_of(runbook, given, catalog.inventory)
    inner = {**scope, **_permitted(catalog.inventory, draft, runbook, arguments)}
    calls = draft.calls[name] = draft.calls.get(name, 0) + 1
    label = runbook.runbook if calls == 1 else f"{runbook.runbook}#{calls}"
    ends: dict[str, _Ends] = {}
    for step in runbook.steps:
        needs = tuple(ends[one] for one in runbook.before(step)) or (_Ends(before),)
        ends[step.id] = _step_of_each(catalog, draft, runbook, label, step, inner, needs)
    return _together(tuple(ends[one] for one in runbook.last())).keys or before


def _permitted(inventory: Inventory, draft: _Draft, runbook: Runbook, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """The arguments without the addresses that must never be blocked; those become refusals."""
    permitted = dict(arguments)
    for name, parameter in runbook.parameters.items():
        if parameter.type is ParameterType.ADDRESSES and permitted[name]:
            reasons = {one: refuse_address(inventory, one) for one in permitted[name]}
            draft.refusals.update({f"{runbook.runbook}: {why}": None for why in reasons.values() if why})
            permitted[name] = [one for one in permitted[name] if not reasons[one]]
    return permitted


def _step_of_each(
    catalog: Catalog, draft: _Draft, runbook: Runbook, label: str, step: Step, scope: dict[str, Json],
    needs: tuple[_Ends, ...],
) -> _Ends:  # fmt: skip
    """Add one step for each of its items. Where there are none, what follows waits for what came before."""
    earlier = _together(needs)
    if step.when is not None and not _value(catalog, step.when, scope):
        return earlier
    by_item: dict[str, tuple[str, ...]] = {}
    for item in _items(catalog, step, scope, f"{runbook.runbook}.{step.id}"):
        here = scope if item is None else {**scope, "item": item}
        after = tuple(dict.fromkeys(key for one in needs for key in one.of(item)))
        built = _step(catalog, draft, runbook, label, step, here, after, item)
        draft.steps.append(built)
        by_item[str(item)] = (built.key,)
    if not by_item:
        return earlier
    return _Ends(tuple(key for keys in by_item.values() for key in keys), by_item if step.for_each else {})


def _together(ends: tuple[_Ends, ...]) -> _Ends:
    """All of several ends; for one item only what every one of them knows of it."""
    if len(ends) == 1:
        return ends[0]
    keys = tuple(dict.fromkeys(key for one in ends for key in one.keys))
    items = dict.fromkeys(item for one in ends for item in one.by_item)
    by_item = {item: tuple(dict.fromkeys(key for one in ends for key in one.of(item))) for item in items}
    return _Ends(keys, by_item)


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
        return PlanStep(key=key, manual=text, role=step.role or COMMANDER, people=1, fields=step.fields, **common)
    action = catalog.actions.get(step.action or "")
    params = check_params(action, _value(catalog, step.arguments, scope), f"{runbook.runbook}.{step.id}")
    host = _target(catalog.inventory, action, params, key)
    suffix = host.name if host else (str(item) if item is not None else "")
    rule = rule_for(draft.playbook, f"{runbook.runbook}.{step.id}", step.approval)
    people, reasons = people_needed(catalog.inventory, draft.incident, rule, action, host, draft.touched)
    if draft.mode is Mode.APPROVE and not people:
        people, reasons = 1, ("a person says yes to the whole plan first",)
    return PlanStep(
        key=key + (f"@{suffix}" if suffix else ""), action=action.name, params=params,
        target=host.name if host else "", people=people, reasons=reasons,
        role=(rule.role or COMMANDER) if people else None, **common,
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
