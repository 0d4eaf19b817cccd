"""The forms that start runbooks and playbooks, as JSON schemas (draft 2020-12) in the order in which they are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from irflow.core.approvals import Operator
from irflow.core.identity import Deed, allows
from irflow.core.incident import TARGETS
from irflow.core.inventory import Inventory
from irflow.core.mode import Mode
from irflow.core.model import Json, parse_duration
from irflow.core.playbook import Phase, Playbook, RunbookCall
from irflow.core.runbook import Parameter, ParameterType, Runbook
from irflow.core.severity import Severity

Schema = dict[str, Json]

CODE = r"^[0-9]{6}$"
DURATION = r"^[1-9][0-9]*[smhdw]$"
INCIDENT = r"^([Ii][Rr]-[0-9]{4}-[0-9]{4,}|[0-9A-Za-z]{26})?$"
ADDRESS = r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$"
MOST_TEXT = 500
"""Characters of a reason or a title."""
MOST_ITEMS = 1000
"""Of a list; a longer one is not typed by a person."""

_MODES = (
    "automatic: people are asked where a rule says so. approve: a person says yes to the whole plan before anything "
    "of it runs. step: a person decides before each step."
)
_UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_INCIDENTS = re.compile(rf"\bincident\s*(?:\.\s*|\[\s*['\"])({'|'.join(TARGETS)})\b")
_LONE_HOSTS = re.compile(r"\s*\{\{\s*incident\.hosts\s*\}\}\s*")
_TARGET_TEXTS = {
    "addresses": "Addresses and networks of the attacker",
    "accounts": "Accounts that the attacker uses",
    "hashes": "SHA-256 of malicious files",
    "secrets": "Names of secrets.yaml that are in the wrong hands",
}


def runbook_form(runbook: Runbook, inventory: Inventory, operators: Iterable[Operator]) -> Schema:
    """What is asked to start a runbook by itself: its parameters, then what every form asks."""
    fields = {name: field_of(parameter, inventory) for name, parameter in runbook.parameters.items()}
    for name, field in fields.items():
        field["title"] = _title(name)
    required = [name for name, one in runbook.parameters.items() if one.required and one.default is None]
    incident = _text(
        "Incident", "Number of an open incident that it is done for, as IR-2026-0001. Empty: a new one is opened.",
        pattern=INCIDENT, default="",
    )  # fmt: skip
    common = _common(operators, Deed.RUN)
    return _form({**fields, "reason": _reason(), "incident": incident, **common}, [*required, *_ALWAYS])


def playbook_form(
    playbook: Playbook, runbooks: Mapping[str, Runbook], inventory: Inventory, operators: Iterable[Operator],
    secrets: Iterable[str] = (),
) -> Schema:  # fmt: skip
    """What is asked to open an incident with this playbook. secrets: names of secrets.yaml."""
    severities = [one.value for one in playbook.match.severity or tuple(Severity)]
    fields: Schema = {
        "title": _text("Title", "What happened, in a few words.", minLength=3, maxLength=MOST_TEXT),
        "severity": {
            "type": "string", "title": "Severity", "enum": severities,
            "description": "How bad it is; it decides who is asked and how fast people must answer.",
        },
    }  # fmt: skip
    if len(playbook.match.types) > 1:
        fields["type"] = {
            "type": "string", "title": "Type", "description": "What kind of incident it is.",
            "enum": list(playbook.match.types), "default": playbook.match.types[0],
        }  # fmt: skip
    needed = needs_hosts(playbook, runbooks)
    for target in targets_used(playbook, runbooks):
        fields[target] = _target(target, inventory, sorted(secrets), needed=needed and target == "hosts")
    required = ["title", "severity", *(["hosts"] if needed else []), *_ALWAYS]
    return _form({**fields, "reason": _reason(), **_common(operators, Deed.OPEN)}, required)


def targets_used(playbook: Playbook, runbooks: Mapping[str, Runbook]) -> tuple[str, ...]:
    """What the playbook's calls and the steps of their runbooks read of the incident, in the order of TARGETS."""
    calls = [call for phase in playbook.phases.values() for call in phase]
    texts: list[Json] = [call.arguments for call in calls]
    called = [runbooks[call.runbook] for call in calls if call.runbook in runbooks]
    texts += [step.model_dump(mode="json") for runbook in called for step in runbook.steps]
    found = set(_INCIDENTS.findall(json.dumps(texts).replace('\\"', '"')))
    return tuple(one for one in TARGETS if one in found)


def needs_hosts(playbook: Playbook, runbooks: Mapping[str, Runbook]) -> bool:
    """Whether containment does nothing without hosts: every call passes the incident's to a required parameter."""

    def needs(call: RunbookCall) -> bool:
        runbook = runbooks.get(call.runbook)
        return runbook is not None and any(
            parameter.required and _LONE_HOSTS.fullmatch(str(call.arguments.get(name, "")))
            for name, parameter in runbook.parameters.items()
        )

    calls = playbook.phases.get(Phase.CONTAINMENT, ())
    return bool(calls) and all(needs(call) for call in calls)


def field_of(parameter: Parameter, inventory: Inventory) -> Schema:
    """One parameter as a field, without its title."""
    field = _typed(parameter, inventory)
    if parameter.description:
        field["description"] = parameter.description
    if parameter.type in (ParameterType.HOSTS, ParameterType.HOST):
        field["description"] = _with_groups(parameter.description, inventory)
    if parameter.default is not None:
        duration = parameter.type is ParameterType.DURATION
        field["default"] = duration_text(parameter.default) if duration else parameter.default
    return field


def duration_text(value: Json) -> str:
    """A duration as people write it: `8h`. value: as YAML has it, text or seconds. Raises ValueError."""
    seconds = int(parse_duration(value).total_seconds())
    unit = next(one for one, length in _UNITS.items() if seconds % length == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _typed(parameter: Parameter, inventory: Inventory) -> Schema:
    kind, names = parameter.type, list(inventory.hosts)
    least = int(parameter.required)
    if kind is ParameterType.HOSTS:
        return _list({"enum": names} if names else {}, least)
    if kind is ParameterType.HOST:
        return {"type": "string", **({"enum": names} if names else {})}
    if kind is ParameterType.ADDRESSES:
        return _list({"pattern": ADDRESS}, least)
    if kind is ParameterType.STRINGS:
        return _list({"enum": list(parameter.choices)} if parameter.choices else {"minLength": 1}, least)
    if kind is ParameterType.DURATION:
        return {"type": "string", "pattern": DURATION}
    if kind is ParameterType.INTEGER:
        return {"type": "integer"}
    if kind is ParameterType.BOOLEAN:
        return {"type": "boolean"}
    return {"type": "string", **({"enum": list(parameter.choices)} if parameter.choices else {}), "minLength": least}


def _list(items: Schema, least: int) -> Schema:
    return {
        "type": "array", "items": {"type": "string", **items}, "uniqueItems": True,
        **({"minItems": least} if least else {}), "maxItems": MOST_ITEMS,
    }  # fmt: skip


def _target(target: str, inventory: Inventory, secrets: list[str], *, needed: bool) -> Schema:
    if target == "hosts":
        field = field_of(Parameter(type=ParameterType.HOSTS, required=needed, description="Hosts concerned"), inventory)
    else:
        kind = ParameterType.ADDRESSES if target == "addresses" else ParameterType.STRINGS
        choices = tuple(secrets) if target == "secrets" else ()
        field = field_of(Parameter(type=kind, choices=choices, description=_TARGET_TEXTS[target]), inventory)
    return {"title": _title(target), **field, **({} if needed else {"default": []})}


def _with_groups(description: str, inventory: Inventory) -> str:
    groups = [f"{name} ({', '.join(hosts)})" for name, hosts in sorted(inventory.groups.items())]
    said = description.rstrip(".") or "Names of the inventory"
    return f"{said}. Groups: {', '.join(groups)}" if groups else said


_ALWAYS = ("reason", "operator", "code")


def _common(operators: Iterable[Operator], deed: Deed) -> Schema:
    """operators: all; those who may do it and have a key for codes are offered."""
    able = sorted(one.name for one in operators if one.totp and allows(one.access, deed))
    missing = f"Nobody who may {deed} has a key for one-time codes: irflow operators add NAME"
    return {
        "mode": {
            "type": "string", "title": "Mode", "description": _MODES, "enum": [one.value for one in Mode],
            "default": Mode.AUTOMATIC.value,
        },
        "operator": {
            "type": "string", "title": "Operator", **({"enum": able} if able else {"minLength": 2}),
            "description": "Who you are." if able else missing,
        },
        "code": _text("One-time code", "The six digits that your phone shows now. Each is taken once.", pattern=CODE),
    }  # fmt: skip


def _reason() -> Schema:
    return _text("Reason", "Why it is done now; it stands in the journal.", minLength=3, maxLength=MOST_TEXT)


def _text(title: str, description: str, **more: Json) -> Schema:
    return {"type": "string", "title": title, "description": description, **more}


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ").capitalize()


def _form(fields: Schema, required: list[str]) -> Schema:
    properties = {name: {**field, "position": place} for place, (name, field) in enumerate(fields.items())}
    return {
        "title": "Parameters", "type": "object", "properties": properties, "required": required,
        "additionalProperties": False, "definitions": {},
    }  # fmt: skip
