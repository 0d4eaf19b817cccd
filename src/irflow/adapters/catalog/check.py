"""What a single YAML file cannot show by its form: that everything it names exists and fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError

from irflow.adapters.catalog.model import suggestion
from irflow.adapters.catalog.yaml_file import YamlFile
from irflow.core.action import Action, Registry
from irflow.core.arguments import arguments_of
from irflow.core.errors import ConfigurationError, IrflowError
from irflow.core.incident import Incident
from irflow.core.inventory import Inventory
from irflow.core.model import Json
from irflow.core.planner import COMMANDER
from irflow.core.playbook import ApprovalRule, Playbook, RunbookCall
from irflow.core.ports import Expressions
from irflow.core.runbook import Runbook, Step

Where = tuple[str | int, ...]
ALWAYS = frozenset({"incident", "results", "groups"})
"""Names that every expression may use."""


class FoundNames(Protocol):
    """What an expression reads. lone: it is one `{{ ... }}` and nothing else, so it gives a value."""

    @property
    def names(self) -> frozenset[str]: ...
    @property
    def attributes(self) -> frozenset[tuple[str, str]]: ...
    @property
    def lone(self) -> bool: ...


class ExpressionNames(Expressions, Protocol):
    """Expressions that can also be looked at without evaluating them."""

    def names(self, text: str) -> FoundNames:
        """What the expression reads. Raises ConfigurationError when it does not compile."""
        ...


@dataclass(frozen=True)
class Knowledge:
    """All that a file may name. broken: runbooks whose files have mistakes of their own."""

    runbooks: Mapping[str, Runbook]
    broken: set[str]
    actions: Registry
    inventory: Inventory
    expressions: ExpressionNames
    templates: Sequence[str]


# ---------------------------------------------------------------- runbooks


def check_runbook(runbook: Runbook, file: YamlFile, known: Knowledge) -> Iterator[ConfigurationError]:
    """The mistakes of one runbook."""
    for name, parameter in runbook.parameters.items():
        where: Where = ("parameters", name)
        if not name.isidentifier() or name in {*ALWAYS, "item"}:
            yield file.error(f"{name!r} cannot be a parameter's name", *where, hint="Expressions could not use it")
        if parameter.default is not None:
            alone = runbook.model_copy(update={"parameters": {name: parameter}})
            yield from _attempt(lambda alone=alone: arguments_of(alone, {}, known.inventory), file, *where, "default")  # type: ignore[misc]
    scope = ALWAYS | set(runbook.parameters)
    for number, step in enumerate(runbook.steps):
        yield from _check_step(step, file, known, scope, ("steps", number))


def _check_step(
    step: Step, file: YamlFile, known: Knowledge, scope: frozenset[str], at: Where
) -> Iterator[ConfigurationError]:
    for key, text in (("for_each", step.for_each), ("when", step.when), ("manual", step.manual)):
        yield from _expression(text, file, known, scope, (*at, key), lone=key != "manual")
    inner = scope | {"item"} if step.for_each is not None else scope
    yield from _expressions(step.arguments, file, known, inner, (*at, "with"))
    if step.manual is not None and step.approval is not None:
        yield file.error("a manual step is done by a person anyhow", *at, "approval", hint="Use `role`")
    if step.action is None:
        return
    if step.role is not None:
        yield file.error("only a manual step has a `role`", *at, "role", hint="Use `approval`")
    if step.action not in known.actions.names():
        hint = suggestion(step.action, known.actions.names())
        yield file.error(f"no action {step.action!r}", *at, "action", hint=hint)
        return
    yield from _check_parameters(step, known.actions.get(step.action), file, at)
    if step.action == "document.write":
        yield from _template(step.arguments.get("template"), file, known, (*at, "with", "template"))


def _check_parameters(step: Step, action: Action[Any], file: YamlFile, at: Where) -> Iterator[ConfigurationError]:
    """An action's parameters as far as they are known before an incident: names, and values without expressions."""
    fields = {field.alias or name: field for name, field in action.Params.model_fields.items()}
    for name in step.arguments:
        if name not in fields:
            hint = suggestion(name, fields) or "It takes none"
            yield file.error(f"{action.name} has no parameter {name!r}", *at, "with", name, hint=hint)
    for name, field in fields.items():
        if field.is_required() and name not in step.arguments:
            yield file.error(f"{action.name} needs the parameter {name!r}", *at, "with")
    fixed = {name: value for name, value in step.arguments.items() if name in fields and not _has_expression(value)}
    try:
        action.Params.model_validate(fixed)
    except ValidationError as error:
        for one in error.errors():
            if one["loc"] and one["loc"][0] in fixed and one["type"] != "missing":
                field_ = ".".join(str(part) for part in one["loc"])
                message = one["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
                yield file.error(f"{action.name}: {field_}: {message}", *at, "with", *one["loc"])


# ---------------------------------------------------------------- playbooks


def check_playbook(playbook: Playbook, file: YamlFile, known: Knowledge) -> Iterator[ConfigurationError]:
    """The mistakes of one playbook."""
    for number, name in enumerate(playbook.documents):
        yield from _template(name, file, known, ("documents", number))
    for phase, calls in playbook.phases.items():
        for number, call in enumerate(calls):
            at: Where = ("phases", phase.value, number)
            if call.parallel and number == 0:
                yield file.error("the first runbook of a phase has none before it", *at, "parallel")
            yield from _check_call(playbook, call, file, known, at)
    for key in playbook.auto_approve:
        yield from _check_rule(playbook, ("auto_approve", key), file, known, waives=True)
    for key, rule in playbook.approvals.items():
        yield from _check_rule(playbook, ("approvals", key), file, known, waives=bool(rule.waived_for))
        if rule.role is not None and rule.role not in playbook.roles:
            hint = suggestion(rule.role, playbook.roles) or "Name it under roles"
            yield file.error(f"no role {rule.role!r}", "approvals", key, "role", hint=hint)


def _check_call(
    playbook: Playbook, call: RunbookCall, file: YamlFile, known: Knowledge, at: Where
) -> Iterator[ConfigurationError]:
    yield from _expressions(call.arguments, file, known, ALWAYS, (*at, "with"))
    runbook = known.runbooks.get(call.runbook)
    if runbook is None:
        if call.runbook not in known.broken:
            hint = suggestion(call.runbook, known.runbooks)
            yield file.error(f"no runbook {call.runbook!r}", *at, "runbook", hint=hint)
        return
    for name in call.arguments:
        if name not in runbook.parameters:
            hint = suggestion(name, runbook.parameters) or "It takes none"
            yield file.error(f"runbook {runbook.runbook} has no parameter {name!r}", *at, "with", name, hint=hint)
    for name, parameter in runbook.parameters.items():
        given = call.arguments.get(name)
        if parameter.required and given is None:
            yield file.error(f"runbook {runbook.runbook} needs the parameter {name!r}", *at, "runbook")
        if given is not None and not _has_expression(given):
            alone = runbook.model_copy(update={"parameters": {name: parameter}})
            use = lambda alone=alone, name=name, given=given: arguments_of(alone, {name: given}, known.inventory)  # noqa: E731
            yield from _attempt(use, file, *at, "with", name)
    for role in roles_used(runbook, known.actions):
        if role not in playbook.roles:
            hint = suggestion(role, playbook.roles) or "Name them under roles"
            yield file.error(f"runbook {runbook.runbook} needs the role {role!r}", *at, "runbook", hint=hint)


def _check_rule(
    playbook: Playbook, at: tuple[str, str], file: YamlFile, known: Knowledge, *, waives: bool
) -> Iterator[ConfigurationError]:
    """A line about the approval of one step. waives: it says that nobody need be asked."""
    section, key = at
    name = key.partition(".")[0]
    if name in known.broken:
        return
    called = {call.runbook for calls in playbook.phases.values() for call in calls} & set(known.runbooks)
    steps = {f"{one}.{step.id}": step for one in called for step in known.runbooks[one].steps}
    step = steps.get(key)
    if step is None:
        asking = [one for one, found in steps.items() if found.approval]
        yield file.error(f"{section}: no step {key!r} in this playbook", *at, hint=suggestion(key, asking))
    elif waives and step.approval is None and playbook.approvals.get(key, ApprovalRule()).role is None:
        yield file.error(f"{section}: {key} asks for no approval", *at, hint="Remove the line")
    elif waives and step.action in known.actions.names() and known.actions.get(step.action or "").needs_person:
        yield file.error(f"{section}: {step.action} always needs a person", *at, hint="Remove the line")


def roles_used(runbook: Runbook, actions: Registry) -> tuple[str, ...]:
    """The roles that a runbook's steps ask for, in order."""
    roles: dict[str, None] = {}
    for step in runbook.steps:
        action = actions.get(step.action) if step.action in actions.names() and step.action else None
        if step.manual is not None:
            roles[step.role or COMMANDER] = None
        elif step.approval or (action is not None and action.needs_person):
            roles[step.approval or COMMANDER] = None
        told = step.arguments.get("roles") if step.action == "notify.send" else None
        for role in told if isinstance(told, list | tuple) else ():
            if isinstance(role, str) and not _has_expression(role):
                roles[role] = None
    return tuple(roles)


def overlaps(read: Sequence[tuple[Playbook, YamlFile]]) -> Iterator[ConfigurationError]:
    """Playbooks of one folder that want the same incidents; between folders the earlier one goes first."""
    first: dict[tuple[str, str, str], Playbook] = {}
    for playbook, file in read:
        for type_ in playbook.match.types:
            for severity in playbook.match.severity or ("any",):
                other = first.setdefault((str(file.path.parent), type_, str(severity)), playbook)
                if other is not playbook:
                    what = f"{type_} of severity {severity}"
                    yield file.error(f"playbook {other.playbook!r} is already for {what}", "match")


# ---------------------------------------------------------------- expressions


def _has_expression(value: Json) -> bool:
    if isinstance(value, dict):
        return any(_has_expression(one) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_has_expression(one) for one in value)
    return isinstance(value, str) and "{{" in value


def _expressions(
    value: Json, file: YamlFile, known: Knowledge, scope: frozenset[str], at: Where
) -> Iterator[ConfigurationError]:
    """Mistakes of all expressions in a value."""
    if isinstance(value, str):
        yield from _expression(value, file, known, scope, at, lone=False)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _expressions(one, file, known, scope, (*at, key))
    elif isinstance(value, list | tuple):
        for number, one in enumerate(value):
            yield from _expressions(one, file, known, scope, (*at, number))


def _expression(
    text: str | None, file: YamlFile, known: Knowledge, scope: frozenset[str], at: Where, *, lone: bool
) -> Iterator[ConfigurationError]:
    if text is None:
        return
    try:
        found = known.expressions.names(text)
    except ConfigurationError as error:
        yield file.error(error.message, *at, hint=error.hint)
        return
    if lone and not found.lone:
        yield file.error(
            f"{at[-1]} is not one expression: {text[:100]!r}", *at, hint='Write "{{ ... }}" around all of it'
        )
    for name in sorted(found.names - scope):
        yield file.error(f"{text[:200]!r}: {name!r} is not known here", *at, hint=suggestion(name, scope))
    for name, attribute in sorted(found.attributes):
        if name == "incident" and attribute not in Incident.model_fields:
            hint = suggestion(attribute, Incident.model_fields)
            yield file.error(f"{text[:200]!r}: an incident has no {attribute!r}", *at, hint=hint)


def _template(name: Json, file: YamlFile, known: Knowledge, at: Where) -> Iterator[ConfigurationError]:
    if isinstance(name, str) and not _has_expression(name) and name not in known.templates:
        yield file.error(f"no template {name!r}", *at, hint=suggestion(name, known.templates))


def _attempt(call: Callable[[], object], file: YamlFile, *at: str | int) -> Iterator[ConfigurationError]:
    try:
        call()
    except IrflowError as error:
        yield file.error(error.message, *at, hint=error.hint)
    except TypeError:
        yield file.error("a value of another type is needed", *at)
