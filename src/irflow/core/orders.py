"""What a person filled in to start a runbook or a playbook, read anew: whoever carried the form is not trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from irflow.core.arguments import typed
from irflow.core.errors import UsageError
from irflow.core.forms import CODE, INCIDENT, MOST_ITEMS, MOST_TEXT, needs_hosts, targets_used
from irflow.core.inventory import Inventory
from irflow.core.mode import Mode
from irflow.core.model import Json
from irflow.core.playbook import Playbook
from irflow.core.runbook import START_FIELDS, Parameter, ParameterType, Runbook
from irflow.core.severity import Severity

LEAST_TEXT = 3
"""Characters of a reason or a title: a dot is none."""


@dataclass(frozen=True)
class Order:
    """What every form asks. operator, code: who it claims to be from, and the proof; incident: empty for a new one."""

    operator: str
    code: str = field(repr=False)
    reason: str
    mode: Mode
    incident: str = ""


@dataclass(frozen=True)
class Report:
    """An incident as a person reports it. targets: by kind, typed and known to the inventory."""

    title: str
    type: str
    severity: Severity
    targets: Mapping[str, tuple[str, ...]]


def order_of(form: Mapping[str, Json]) -> Order:
    """The common fields. Raises UsageError naming the first that is missing or wrong."""
    mode = _one_of(form, "mode", list(Mode), Mode.AUTOMATIC)
    code = "".join(_text(form, "code").split())
    if not re.fullmatch(CODE, code):
        raise UsageError("code: not 6 digits", hint="Type what your authenticator app shows now")
    incident = _text(form, "incident").strip()
    if not re.fullmatch(INCIDENT, incident):
        raise UsageError("incident: not a number", hint="Write IR-2026-0001, or leave it empty for a new incident")
    return Order(_text(form, "operator"), code, _words(form, "reason"), Mode(mode), incident)


def arguments_in(form: Mapping[str, Json], runbook: Runbook) -> dict[str, Json]:
    """What is left for the runbook; core.arguments checks it. What was left empty is as if it were not there.

    Raises UsageError for a required list with nothing in it: a playbook may pass one, a person forgot something.
    """
    found = {name: value for name, value in form.items() if name not in START_FIELDS and value not in (None, "")}
    for name, parameter in runbook.parameters.items():
        if parameter.required and found.get(name) == []:
            raise UsageError(f"{name}: name at least one", hint=parameter.description)
    return found


def report_of(
    form: Mapping[str, Json], playbook: Playbook, runbooks: Mapping[str, Runbook], inventory: Inventory
) -> Report:
    """The incident that the form of a playbook opens.

    Raises UsageError naming the first field that is missing, wrong or unknown, Refused for an unknown host.
    """
    used = targets_used(playbook, runbooks)
    if unknown := sorted(set(form) - {"title", "type", "severity", *used, *START_FIELDS}):
        raise UsageError(f"playbook {playbook.playbook} has no field {unknown[0][:40]!r}")
    severities = [one.value for one in playbook.match.severity or tuple(Severity)]
    severity = _one_of(form, "severity", severities)
    type_ = _one_of(form, "type", playbook.match.types, playbook.match.types[0])
    targets = {target: _targets(form, target, inventory) for target in used}
    if needs_hosts(playbook, runbooks) and not targets["hosts"]:
        raise UsageError("hosts: name at least one", hint="Containment does nothing without")
    if used and not any(targets.values()):
        raise UsageError(f"name at least one of {', '.join(used)}", hint="There is nothing to act on")
    return Report(_words(form, "title"), type_, Severity(severity), targets)


def _targets(form: Mapping[str, Json], target: str, inventory: Inventory) -> tuple[str, ...]:
    kinds = {"hosts": ParameterType.HOSTS, "addresses": ParameterType.ADDRESSES}
    try:
        found = typed(Parameter(type=kinds.get(target, ParameterType.STRINGS)), form.get(target) or [], inventory)
    except ValueError as error:
        raise UsageError(f"{target}: {error}") from None
    if len(found) > MOST_ITEMS:
        raise UsageError(f"{target}: more than {MOST_ITEMS}")
    return tuple(dict.fromkeys(found))


def _words(form: Mapping[str, Json], name: str) -> str:
    text = " ".join(_text(form, name).split())
    if not LEAST_TEXT <= len(text) <= MOST_TEXT:
        raise UsageError(f"{name}: between {LEAST_TEXT} and {MOST_TEXT} characters", hint="Say it in a few words")
    return text


def _one_of(form: Mapping[str, Json], name: str, choices: Sequence[str], otherwise: str = "") -> str:
    chosen = _text(form, name, otherwise)
    if chosen not in choices:
        raise UsageError(f"{name}: {chosen[:40]!r} is no choice here", hint=f"Choose {', '.join(choices)}")
    return chosen


def _text(form: Mapping[str, Json], name: str, otherwise: str = "") -> str:
    value = form.get(name)
    if value in (None, ""):
        return otherwise
    if not isinstance(value, str):
        raise UsageError(f"{name}: not a text")
    return value
