"""A question as a page shows it: what will be done, what comes of it, the way back, why, how long, and by whom."""

from __future__ import annotations

import re
from datetime import datetime

from irflow.core.action import Registry
from irflow.core.approvals import Operator
from irflow.core.briefing import MEANING, briefing
from irflow.core.clocks import Clock, window_clock
from irflow.core.errors import ConfigurationError, Refused
from irflow.core.identity import Deed, allows, require
from irflow.core.mode import Mode
from irflow.core.model import Json
from irflow.core.plan import Plan, PlanStep
from irflow.core.questions import Ask, Choice, Question
from irflow.core.runbook import Parameter
from irflow.core.status import IncidentStatus

MOST_STEPS = 200
"""Of a plan on one page; nobody reads more, and `irflow plan` prints them all."""
_LONGEST = 300
_SECONDS = ("lease", "deadman", "timeout")
"""Parameters of actions that are seconds."""
_FLOW_RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_LABEL: dict[Choice, str] = {
    Choice.PROCEED: "Go on", Choice.SKIP: "Leave it out", Choice.REPEAT: "Once more", Choice.ABORT: "Stop here",
    Choice.DONE: "It is done", Choice.FAILED: "It did not work", Choice.SKIPPED: "Not needed",
}  # fmt: skip
_LABEL_OF_PLAN = {Choice.PROCEED: "Yes, do this", Choice.ABORT: "No, leave it"}
_DECIDES = (Choice.PROCEED, Choice.SKIP, Choice.REPEAT, Choice.ABORT)
"""What says how a plan goes on, and so takes as much access as an approval."""


def may_never(operator: Operator, asked: Question) -> str:
    """Why an operator's access does not reach as far as an answer, whatever their roles; empty when it does."""
    try:
        require(operator, Deed.ANSWER if asked.ask is Ask.MANUAL else Deed.APPROVE)
    except Refused as error:
        return str(error)
    return ""


def why_not(operator: Operator, asked: Question) -> str:
    """Why an operator may not answer; empty when they may."""
    if reason := may_never(operator, asked):
        return reason
    if not set(asked.roles) & set(operator.roles):
        return f"It asks for {' or '.join(_plain(one) for one in asked.roles)}; you hold none of these roles"
    if operator.name in asked.said and asked.ask is Ask.APPROVAL:
        return "You have said yes already; another person must be the second"
    return ""


def in_short(status: IncidentStatus, asked: Question, operator: Operator, now: datetime) -> dict[str, Json]:
    """A question for lists."""
    clock = window(status, asked.phase, now)
    return {
        "number": status.incident.number, "incident": status.incident.title,
        "severity": status.incident.severity.value, "id": asked.id, "phase": asked.phase,
        "title": asked.title[:1].upper() + asked.title[1:],
        "targets": list(dict.fromkeys(step.target for step in asked.steps if step.target)),
        "url": f"/incidents/{status.incident.number}/questions/{asked.id}", "mine": not why_not(operator, asked),
        "roles": list(asked.roles), "deadline": deadline(clock, now), "asked_at": asked.asked_at,
    }  # fmt: skip


def in_full(
    status: IncidentStatus, asked: Question, operator: Operator, operators: tuple[Operator, ...], now: datetime,
    actions: Registry, prefect_ui: str,
) -> dict[str, Json]:  # fmt: skip
    """All that somebody has to know before answering, and the form's fields."""
    plan = status.plan(asked.phase)
    waiting = {step.key for step in asked.steps}
    steps = [step for step in plan.steps if asked.ask is Ask.APPROVAL or step.key in waiting] if plan else []
    steps.sort(key=lambda step: step.key not in waiting)
    run = status.shown.get(asked.id, "")
    expected, meanings = _told(asked, status, actions, now)
    decides = allows(operator.access, Deed.APPROVE)
    return {
        **in_short(status, asked, operator, now),
        "ask": asked.ask.value, "digest": asked.digest, "people": asked.people, "said": list(asked.said),
        "missing": max(0, asked.people - len(asked.said)), "why": list(asked.why),
        "expected": expected, "would": bool(asked.would),
        "again": list(asked.again), "rejected": list(asked.rejected),
        "steps": _steps(steps[:MOST_STEPS], waiting, actions, status.incident.number),
        "more_steps": max(0, len(steps) - MOST_STEPS), "count": len(asked.steps),
        "refusals": list(plan.refusals) if plan and asked.ask is Ask.APPROVAL else [],
        "asked_by": _asked_by(plan, asked), "why_not": why_not(operator, asked),
        "who_can": [one.name for one in operators if not why_not(one, asked)],
        "prefect": f"{prefect_ui}/runs/flow-run/{run}" if prefect_ui and _FLOW_RUN.fullmatch(run) else "",
        "choices": [_choice(asked, *one) for one in meanings if one[0] not in _DECIDES or decides],
        "fields": [_field(*one) for one in asked.fields.items()],
        "manual": asked.step.manual or "" if asked.ask is Ask.MANUAL else "",
        "failed": _failure(status, asked) if asked.ask is Ask.FAILED else "",
        "mark": f"{asked.form} {asked.digest}",
    }  # fmt: skip


def window(status: IncidentStatus, phase: str, now: datetime) -> Clock | None:
    """The clock that a question of a phase counts for."""
    return window_clock(status, phase, now)


def deadline(clock: Clock | None, now: datetime) -> dict[str, Json] | None:
    """A clock that runs, for the page's countdown; None where nothing has to be done in time."""
    if clock is None or clock.stopped_at is not None:
        return None
    return {
        "at": clock.deadline, "ms": int(clock.deadline.timestamp() * 1000),
        "start_ms": int(clock.started_at.timestamp() * 1000), "left_s": (clock.deadline - now).total_seconds(),
        "used": min(100, max(0, round(clock.used(now) * 100))),
    }  # fmt: skip


def _plain(role: str) -> str:
    return role.replace("_", " ")


def _told(
    asked: Question, status: IncidentStatus, actions: Registry, now: datetime
) -> tuple[list[str], list[tuple[Choice, str]]]:
    """(what is expected of it, each answer with what it does), as the form and the terminal tell it."""
    try:
        told = briefing(asked, status, actions, now)
    except ConfigurationError:  # an action that this machine does not have: what was seen is all there is to tell
        return list(asked.would), [(one, MEANING[one]) for one in asked.choices]
    return list(told.expected) if asked.ask is not Ask.MANUAL else [], list(told.choices)


def _choice(asked: Question, choice: Choice, means: str) -> dict[str, Json]:
    label = _LABEL_OF_PLAN.get(choice) if asked.ask is Ask.APPROVAL else None
    return {"value": choice.value, "label": label or _LABEL[choice], "means": means[:1].upper() + means[1:]}


def _field(name: str, parameter: Parameter) -> dict[str, Json]:
    default = parameter.default
    if isinstance(default, list | tuple):
        default = ", ".join(str(one) for one in default)
    return {
        "name": name, "type": parameter.type.value, "many": parameter.type.value.endswith("s"),
        "required": parameter.required and parameter.default is None, "description": parameter.description,
        "choices": list(parameter.choices), "default": _text(default),
    }  # fmt: skip


def _text(value: Json) -> str:
    if value is None:
        return ""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _steps(steps: list[PlanStep], waiting: set[str], actions: Registry, number: str) -> list[dict[str, Json]]:
    """Steps of a plan in words; what is done alike on many targets is told once. waits: it is what is asked about."""
    groups: dict[str, list[PlanStep]] = {}
    for step in steps:
        alike = (step.key in waiting, step.runbook, step.step, step.title, step.role, step.people, _params(step))
        groups.setdefault(repr(alike), []).append(step)
    return [_group(group, actions, number, group[0].key in waiting) for group in groups.values()]


def _group(group: list[PlanStep], actions: Registry, number: str, waits: bool) -> dict[str, Json]:
    step = group[0]
    what, back = _what_and_back(step, actions, f"{number} --step {step.key if len(group) == 1 else 'KEY'}")
    return {
        "title": step.title, "targets": [one.target for one in group if one.target], "what": what, "back": back,
        "params": _params(step), "waits": waits, "manual": step.manual or "", "count": len(group),
        "who": f"{step.people} x {_plain(step.role)}" if step.people and step.role else _plain(step.role or ""),
    }  # fmt: skip


def _what_and_back(step: PlanStep, actions: Registry, undo: str) -> tuple[str, str]:
    """(what is done, how it is taken back). undo: what `irflow undo` is told for it."""
    if step.manual is not None or step.action is None:
        return "A person does this.", "By hand, if at all: irflow cannot take back what people do."
    try:
        action = actions.get(step.action)
    except ConfigurationError:
        return step.action, "Unknown: this irflow does not have the action."
    what = f"{action.summary} ({action.name})"
    if not action.mutates:
        return what, "Nothing to undo: it changes nothing outside irflow."
    if not action.reversible:
        return what, f"Cannot be undone: {action.irreversible_because}"
    ends = " It also ends by itself once nobody renews it." if action.lease else ""
    return what, f"Can be undone, and that is proved: irflow undo {undo}.{ends}"


def _params(step: PlanStep) -> list[dict[str, str]]:
    shown = {key: one for key, one in step.params.items() if key != "host" and one not in (None, [], (), "", {})}
    return [{"name": key, "value": _value(key, one)} for key, one in shown.items()]


def _value(name: str, value: Json) -> str:
    if name in _SECONDS and isinstance(value, int | float):
        return f"{value:g} s" if value < 3600 else f"{value / 3600:g} h"
    text = ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _failure(status: IncidentStatus, asked: Question) -> str:
    return str(status.step(asked.step.key).outcome.get("detail") or "it gave no reason")[:2000]


def _asked_by(plan: Plan | None, asked: Question) -> str:
    """Phase, playbook and runbooks that a question comes from."""
    runbooks = ", ".join(dict.fromkeys(step.runbook for step in asked.steps))
    parts = [f"phase {_plain(asked.phase)}", f"playbook {plan.playbook}" if plan and plan.playbook else ""]
    mode = " (step by step)" if plan and plan.mode is Mode.STEP else ""
    return ", ".join(one for one in (*parts, f"runbook {runbooks}") if one) + mode
