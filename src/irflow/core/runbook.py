"""A runbook: ordered steps that do one job."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from irflow.core.model import Duration, Json, Noun

STEP_TIMEOUT = timedelta(seconds=120)


class ParameterType(StrEnum):
    """What a runbook parameter holds; `hosts` and `host` are inventory names, `addresses` IP addresses or networks."""

    HOSTS = "hosts"
    HOST = "host"
    ADDRESSES = "addresses"
    DURATION = "duration"
    STRING = "string"
    STRINGS = "strings"
    INTEGER = "integer"
    BOOLEAN = "boolean"


class Parameter(Noun):
    """One parameter of a runbook, or one field that a manual step asks for. choices: the only texts it may hold."""

    type: ParameterType
    required: bool = False
    default: Json = None
    description: str = ""
    choices: tuple[str, ...] = ()


RESERVED = ("outcome", "decision", "note", "evidence", "operator", "code")
"""What every form asks; no field of a manual step may bear such a name."""
START_FIELDS = ("mode", "reason", "incident", "operator", "code")
"""What every form that starts something asks; no parameter of a runbook may bear such a name."""
PLAIN_TYPES = frozenset(ParameterType) - {ParameterType.HOSTS, ParameterType.HOST}
"""What a person can write into a field of a manual step: what needs no inventory to be checked."""


class Step(Noun):
    """One action on each target, or one thing that a person must do or decide.

    action: name in the registry; arguments: its parameters (`with` in YAML). manual: the text a person follows.
    fields: what a person fills in when a manual step is done; later expressions find it in `results`.
    for_each: expression that gives a list; the step runs once for each, as `item`. when: expression; false skips.
    after: ids of earlier steps that must be over first; without it, the step before. Steps that wait for the same one
    run side by side; of a list's items each waits only for its own. approval: role whose yes is needed. role: who
    does a manual step. timeout: wall clock for the whole step.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    action: str | None = None
    manual: str | None = None
    fields: dict[str, Parameter] = {}
    arguments: dict[str, Json] = Field(default={}, alias="with")
    for_each: str | None = None
    when: str | None = None
    after: tuple[str, ...] | None = None
    approval: str | None = None
    role: str | None = None
    on_failure: Literal["stop", "continue"] = "stop"
    timeout: Duration = STEP_TIMEOUT

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        if (self.action is None) == (self.manual is None):
            raise ValueError("a step has either `action` or `manual`")
        if self.manual is not None and (self.arguments or self.for_each):
            raise ValueError("a manual step takes neither `with` nor `for_each`")
        if self.fields and self.manual is None:
            raise ValueError("only a manual step has `fields`: a person fills them in")
        for name, field in self.fields.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name) or name in RESERVED:
                raise ValueError(f"field {name!r}: a small letter, then letters, digits, _; not {', '.join(RESERVED)}")
            if field.type not in PLAIN_TYPES:
                raise ValueError(f"field {name!r} cannot be of type {field.type}")
        return self


class Runbook(Noun):
    """Procedure for one job; also runs alone."""

    runbook: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    description: str = ""
    parameters: dict[str, Parameter] = {}
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unique_ids(self) -> Runbook:
        if taken := [name for name in self.parameters if name in START_FIELDS]:
            raise ValueError(f"parameter {taken[0]!r}: the form that starts a runbook asks {', '.join(START_FIELDS)}")
        seen: set[str] = set()
        for step in self.steps:
            if step.id in seen:
                raise ValueError(f"step id {step.id!r} appears twice")
            for one in step.after or ():
                if one not in seen:
                    raise ValueError(f"step {step.id!r} comes after {one!r}, which is no earlier step")
            seen.add(step.id)
        return self

    def before(self, step: Step) -> tuple[str, ...]:
        """Ids of the steps that must be over before this one begins; none: it begins with the runbook."""
        if step.after is not None:
            return step.after
        place = self.steps.index(step)
        return (self.steps[place - 1].id,) if place else ()

    def last(self) -> tuple[str, ...]:
        """Ids of the steps that no other waits for."""
        awaited = {one for step in self.steps for one in self.before(step)}
        return tuple(step.id for step in self.steps if step.id not in awaited)
