"""What somebody who must answer a question has to know, the same in the form, in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from irflow.core.action import Registry
from irflow.core.clocks import window_clock
from irflow.core.model import Json
from irflow.core.plan import PlanStep
from irflow.core.questions import Ask, Choice, Question
from irflow.core.status import IncidentStatus

MEANING: dict[Choice, str] = {
    Choice.PROCEED: "do it",
    Choice.SKIP: "leave this step out and go on",
    Choice.REPEAT: "do once more what came before, then ask again",
    Choice.ABORT: "begin nothing more of this run; what is done stays in force",
    Choice.DONE: "it is done",
    Choice.FAILED: "it was tried and did not work",
    Choice.SKIPPED: "it is not needed",
}
"""What each answer does."""


@dataclass(frozen=True)
class Briefing:
    """Everything about one question, as plain text; texts of alerts are in it unescaped.

    what: what will be done, a line for each step. expected: what will be different afterwards. undo: how it is taken
    back. why: why a person is asked. asked_by: playbook or runbook, incident, phase. deadline: end of the window that
    it counts for, None without one; left_s: seconds until then, negative once it has passed. said: who said yes so far;
    missing: how many more are needed. choices: each answer with what it does. rejected: why the last one was not taken.
    """

    title: str
    what: tuple[str, ...]
    expected: tuple[str, ...]
    undo: tuple[str, ...]
    why: tuple[str, ...]
    asked_by: str
    roles: tuple[str, ...]
    deadline: datetime | None
    left_s: float
    said: tuple[str, ...]
    missing: int
    choices: tuple[tuple[Choice, str], ...]
    rejected: str


def briefing(asked: Question, status: IncidentStatus, actions: Registry, now: datetime) -> Briefing:
    """Tell about a question. now: the moment that `left_s` counts from."""
    deadline = _deadline(asked, status, now)
    return Briefing(
        title=asked.title,
        what=tuple(_what(step, actions) for step in asked.steps),
        expected=_expected(asked, actions),
        undo=tuple(dict.fromkeys(_undo(step, status, actions) for step in asked.steps)),
        why=asked.why or ("this run goes step by step",),
        asked_by=_asked_by(asked, status),
        roles=asked.roles,
        deadline=deadline,
        left_s=(deadline - now).total_seconds() if deadline else 0.0,
        said=asked.said,
        missing=max(0, asked.people - len(asked.said)),
        choices=tuple((one, _meaning(one, asked)) for one in asked.choices),
        rejected=asked.rejected[-1] if asked.rejected else "",
    )


def _meaning(choice: Choice, asked: Question) -> str:
    if choice is Choice.ABORT and asked.ask is Ask.APPROVAL:
        return "no: nothing of this plan that waits is done"
    if choice is Choice.PROCEED and asked.ask is Ask.APPROVAL:
        return "yes to exactly this plan"
    if choice is Choice.REPEAT and asked.ask is Ask.FAILED:
        return "try it once more"
    if choice is Choice.REPEAT:
        return f"do {', '.join(key.partition('/')[2] for key in asked.again)} once more, then ask again"
    return MEANING[choice]


def _what(step: PlanStep, actions: Registry) -> str:
    if step.manual is not None:
        return step.manual
    on = f" on {step.target}" if step.target else ""
    given = ", ".join(f"{name} {_plain(value)}" for name, value in step.params.items() if _said(name, value))
    summary = actions.get(step.action or "").summary
    return f"{step.title}{on}: {summary[:1].lower()}{summary[1:]}{f' ({given})' if given else ''}"


def _said(name: str, value: Json) -> bool:
    return name != "host" and value not in (None, "", [], (), {}, False)


def _plain(value: Json) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _expected(asked: Question, actions: Registry) -> tuple[str, ...]:
    if asked.ask is Ask.MANUAL:
        return tuple(f"{name}: {one.description or one.type}" for name, one in asked.fields.items())
    if asked.would:
        return asked.would
    held = [actions.get(step.action or "").lease for step in asked.steps]
    return tuple(f"{kind} in force on {step.target}" for kind, step in zip(held, asked.steps, strict=True) if kind)


def _undo(step: PlanStep, status: IncidentStatus, actions: Registry) -> str:
    if step.manual is not None:
        return "by hand, whoever did it"
    action = actions.get(step.action or "")
    if not action.reversible:
        return f"not: {action.irreversible_because}"
    return f"irflow undo {status.incident.number} --step {step.key}"


def _asked_by(asked: Question, status: IncidentStatus) -> str:
    plan = status.plan(asked.phase)
    policy = f"playbook {plan.playbook}" if plan and plan.playbook else f"runbook {asked.step.runbook}"
    return f"{policy}, {asked.phase.replace('_', ' ')} of {status.incident.number}: {status.incident.title}"


def _deadline(asked: Question, status: IncidentStatus, now: datetime) -> datetime | None:
    """End of the window that the question counts for."""
    clock = window_clock(status, asked.phase, now)
    return clock.deadline if clock else None


def span(seconds: float) -> str:
    """A length of time for people, to the unit that matters: `43 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    left = abs(round(seconds))
    if left < 120:
        return f"{left} s"
    minutes = left // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def lines(told: Briefing) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(heading, lines) in the order in which people read it; headings without lines are left out."""
    left = "no window is running"
    if told.deadline is not None:
        late = " PAST the end of" if told.left_s < 0 else " left of"
        left = f"{span(told.left_s)}{late} the window, which ends at {told.deadline:%Y-%m-%d %H:%M:%S} UTC"
    agreed = (f"{', '.join(told.said)}; {told.missing} more needed",) if told.said else ()
    everything = (
        ("The last answer was not taken", (told.rejected,) if told.rejected else ()),
        ("Said yes so far", agreed),
        ("What", told.what),
        ("What it would change now", told.expected),
        ("How it is taken back", told.undo),
        ("Why you are asked", told.why),
        ("Who asks", (told.asked_by,)),
        ("Who may answer", (" or ".join(told.roles).replace("_", " "),)),
        ("Time", (left,)),
        ("Answers", tuple(f"{one.value}: {meaning}" for one, meaning in told.choices)),
    )
    return ((heading, texts) for heading, texts in everything if texts)
