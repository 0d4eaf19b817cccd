"""What waits for a person, as every way of answering shows it: the form in Prefect, the terminal, irflow's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from irflow.core.mode import Mode
from irflow.core.plan import Plan, PlanStep
from irflow.core.planner import COMMANDER
from irflow.core.runbook import Parameter
from irflow.core.status import FINISHED, TAKEN_BACK, TROUBLED, IncidentStatus, State

TECHNICAL_LEAD = "technical_lead"


class Ask(StrEnum):
    """What kind of thing is asked.

    `approval`: a yes to a plan. `step`: what to do about the next step. `failed`: the same of one that has failed.
    `manual`: how something went that a person does.
    """

    APPROVAL = "approval"
    STEP = "step"
    FAILED = "failed"
    MANUAL = "manual"


class Choice(StrEnum):
    """What a person can say. The last three are for what people do themselves."""

    PROCEED = "proceed"
    SKIP = "skip"
    REPEAT = "repeat"
    ABORT = "abort"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Question:
    """One thing that a person must decide.

    id: unique in the incident, changes with every new asking. steps: one; of an approval, all that wait for it.
    roles: who may answer; one of them is enough. people: how many different ones must say yes; said: who did so far.
    choices: what can be said. fields: what is filled in besides. would: what the step would change, as seen when it was
    asked. again: keys of the steps that `repeat` does once more. why: the reasons for asking.
    rejected: why earlier answers were not taken, oldest first.
    """

    id: str
    ask: Ask
    phase: str
    digest: str
    steps: tuple[PlanStep, ...]
    roles: tuple[str, ...]
    people: int
    said: tuple[str, ...]
    asked_at: datetime
    choices: tuple[Choice, ...]
    why: tuple[str, ...] = ()
    fields: Mapping[str, Parameter] = field(default_factory=dict)
    would: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()

    @property
    def step(self) -> PlanStep:
        """The step it is about; of an approval the first."""
        return self.steps[0]

    @property
    def title(self) -> str:
        """In a few words, for lists."""
        if self.ask is Ask.APPROVAL:
            return f"approve the {self.phase} plan ({len(self.steps)} step{'s' if len(self.steps) > 1 else ''})"
        target = f" on {self.step.target}" if self.step.target else ""
        return f"{self.step.title}{target}{' has failed' if self.ask is Ask.FAILED else ''}"

    @property
    def form(self) -> str:
        """Names one asking of it: another one after each answer, whether it was taken or not."""
        return f"{self.id}-{len(self.said) + len(self.rejected)}"


def questions(status: IncidentStatus) -> tuple[Question, ...]:
    """All that waits for a person now, in the order of the plans; nothing once the incident is closed."""
    found: list[Question] = []
    for phase in status.phases.values() if status.open else ():
        if phase.plan is None or phase.stale or phase.ended_at is not None:
            continue
        plan = phase.plan
        waiting = [step for step in plan.steps if status.step(step.key).state is State.AWAITING]
        held = [step for step in plan.steps if status.step(step.key).short_s is not None]
        if plan.mode is Mode.STEP:
            found += [_about(status, plan, step) for step in waiting]
            continue
        asked = tuple(step for step in plan.steps if step.manual is None and (step in waiting or step in held))
        if asked:
            found.append(_approval(status, plan, asked))
        found += [_about(status, plan, step) for step in waiting if step.manual is not None]
    return tuple(found)


def question(status: IncidentStatus, id_: str) -> Question | None:
    """The question of this id, while it waits."""
    return next((one for one in questions(status) if one.id == id_), None)


def _approval(status: IncidentStatus, plan: Plan, steps: tuple[PlanStep, ...]) -> Question:
    standing = [status.step(step.key) for step in steps]
    id_ = str(min(one.asked_seq for one in standing))
    return Question(
        id_, Ask.APPROVAL, plan.phase, plan.digest, steps,
        roles=tuple(dict.fromkeys(step.role or COMMANDER for step in steps)),
        people=max(step.people for step in steps),
        said=tuple(dict.fromkeys(one.operator for one in status.approvals if one.digest == plan.digest)),
        asked_at=min(one.asked_at for one in standing if one.asked_at),
        choices=(Choice.PROCEED, Choice.ABORT),
        why=_union(step.reasons for step in steps), rejected=tuple(status.rejected.get(id_, ())),
    )  # fmt: skip


def _about(status: IncidentStatus, plan: Plan, step: PlanStep) -> Question:
    known, stepwise = status.step(step.key), plan.mode is Mode.STEP
    again = _again(status, plan, step) if stepwise and not known.failed else ()
    if step.manual is not None:
        ask, choices = Ask.MANUAL, [Choice.DONE, Choice.FAILED, Choice.SKIPPED]
    elif known.failed:
        ask, choices = Ask.FAILED, [Choice.REPEAT, Choice.SKIP]
    else:
        ask, choices = Ask.STEP, [Choice.PROCEED, Choice.SKIP]
    if again:
        choices.append(Choice.REPEAT)
    if stepwise:
        choices.append(Choice.ABORT)
    id_ = str(known.asked_seq)
    return Question(
        id_, ask, plan.phase, plan.digest, (step,),
        roles=(step.role,) if step.role else (COMMANDER, TECHNICAL_LEAD),
        people=1 if step.manual is not None else max(1, step.people),
        said=tuple(dict.fromkeys(known.proceeds)),
        asked_at=known.asked_at or status.incident.detected_at,
        choices=tuple(choices), why=step.reasons, fields=step.fields, would=known.would, again=again,
        rejected=tuple(status.rejected.get(id_, ())),
    )  # fmt: skip


def _again(status: IncidentStatus, plan: Plan, step: PlanStep) -> tuple[str, ...]:
    """The steps right before this one that ran and can run once more."""
    able = (FINISHED | TROUBLED) - TAKEN_BACK - {State.SKIPPED}
    return tuple(key for key in step.after if status.step(key).state in able)


def _union(lists: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for each in lists for one in each))
