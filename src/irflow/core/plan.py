"""A plan: the exact steps of one phase, frozen when the phase starts. Its digest is what people approve."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Literal

from pydantic import Field

from irflow.core.journal import digest
from irflow.core.mode import Mode
from irflow.core.model import Json, Noun
from irflow.core.runbook import Parameter


class PlanStep(Noun):
    """One action on one target, or one thing a person must do.

    key: `PHASE/RUNBOOK.STEP@TARGET`, unique in the incident. after: keys that must be finished first.
    people: how many different people must approve; 0 when none. reasons: why a person is needed.
    role: who approves, or who does a manual step. fields: what is filled in when a manual step is done.
    """

    key: str
    runbook: str
    step: str
    title: str
    action: str | None = None
    manual: str | None = None
    target: str = ""
    params: dict[str, Json] = {}
    after: tuple[str, ...] = ()
    role: str | None = None
    people: int = 0
    reasons: tuple[str, ...] = ()
    on_failure: Literal["stop", "continue"] = "stop"
    timeout_s: float = 120.0
    fields: dict[str, Parameter] = {}


class Plan(Noun):
    """The steps of one phase of one incident.

    revision: raised by every new plan of the same phase. refusals: what was asked for and is never done, and why.
    mode: how much of it people decide.
    """

    incident: str
    phase: str
    revision: int = 1
    playbook: str | None = None
    steps: tuple[PlanStep, ...] = Field(max_length=10_000)
    refusals: tuple[str, ...] = ()
    mode: Mode = Mode.AUTOMATIC

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON; any other target, parameter or order gives another one.

        What a plan does not use is not part of it, so that a later irflow finds the digest that people agreed to.
        """
        content = self.model_dump(mode="json")
        if self.mode is Mode.AUTOMATIC:
            del content["mode"]
        for step in content["steps"]:
            if not step["fields"]:
                del step["fields"]
        return digest(content)

    def step(self, key: str) -> PlanStep:
        """The step with this key. Raises KeyError."""
        for step in self.steps:
            if step.key == key:
                return step
        raise KeyError(key)

    @property
    def people(self) -> int:
        """How many different people must approve this plan for all of it to run."""
        return max((step.people for step in self.steps if step.manual is None), default=0)


class Approval(Noun):
    """A person's yes to exactly one plan digest.

    method: how the person was authenticated (`os-account`, later `totp`).
    """

    digest: str
    operator: str
    role: str
    method: str
    at: datetime
