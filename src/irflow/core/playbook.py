"""A playbook: policy for one incident type. It calls runbooks; a runbook never calls back."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import Field

from irflow.core.model import Duration, Json, Noun
from irflow.core.severity import Severity


class Phase(StrEnum):
    """The four phases of an incident, in order."""

    DETECTION = "detection"
    CONTAINMENT = "containment"
    RECOVERY = "recovery"
    LESSONS_LEARNED = "lessons_learned"


class Match(Noun):
    """Which incidents a playbook is for; an empty list of severities means all."""

    types: tuple[str, ...] = Field(min_length=1)
    severity: tuple[Severity, ...] = ()


class RunbookCall(Noun):
    """One runbook in a phase. parallel: runs beside the one before it. arguments: `with` in YAML."""

    runbook: str
    arguments: dict[str, Json] = Field(default={}, alias="with")
    parallel: bool = False


class ApprovalRule(Noun):
    """Who must agree to one step.

    role: whose yes is needed; without it, the runbook's. waived_for: severities for which nobody is asked; never for a
    host whose criticality is above the incident's severity. two_people_above: hosts of one incident above which two
    people must agree, whatever is waived.
    """

    role: str | None = None
    waived_for: tuple[Severity, ...] = ()
    two_people_above: int | None = Field(default=None, ge=0)


class Playbook(Noun):
    """Policy for one incident type.

    roles: role name -> who usually holds it. auto_approve: `runbook.step` -> severities for which the step's
    approval is waived; short for the same in `approvals`, by `runbook.step` too.
    on_timeout: what happens when an approval is not answered within approval_window: people are told once more, or
    what ends by itself is done for 30 minutes at most. 10 minutes leave a third of containment's 15 to be cut in time.
    """

    playbook: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    match: Match
    roles: dict[str, str] = {}
    auto_approve: dict[str, tuple[Severity, ...]] = {}
    approvals: dict[str, ApprovalRule] = {}
    phases: dict[Phase, tuple[RunbookCall, ...]]
    documents: tuple[str, ...] = ()
    on_timeout: Literal["escalate", "short_lease"] = "escalate"
    approval_window: Duration = timedelta(minutes=10)


def choose(playbooks: tuple[Playbook, ...], type_: str, severity: Severity) -> Playbook | None:
    """The playbook for an incident: the one that names its type and severity, else its type with any severity."""
    fitting = [one for one in playbooks if type_ in one.match.types]
    exact = [one for one in fitting if severity in one.match.severity]
    anyhow = [one for one in fitting if not one.match.severity]
    return next(iter(exact or anyhow), None)


def rule_for(playbook: Playbook | None, step: str, role: str | None) -> ApprovalRule:
    """The rule for one step. step: `runbook.step`. role: whom the runbook asks."""
    if playbook is None:
        return ApprovalRule(role=role)
    rule = playbook.approvals.get(step, ApprovalRule())
    waived = (*rule.waived_for, *playbook.auto_approve.get(step, ()))
    return rule.model_copy(update={"role": rule.role or role, "waived_for": waived})
