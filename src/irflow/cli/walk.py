"""A walk through all that waits at a terminal: one question after the other, until nothing waits."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from irflow.cli.output import nobody_works, progress, say
from irflow.cli.person import Person, identify

if TYPE_CHECKING:
    from irflow.core.answers import Answer
    from irflow.core.briefing import Briefing
    from irflow.core.ports import Store
    from irflow.core.questions import Question
    from irflow.core.runbook import Parameter
    from irflow.core.status import IncidentStatus
    from irflow.wiring import Configuration

LOOK_S = 0.3
"""How often a walk looks whether the next question has come."""


def write_down(
    store: Store, incident: str, person: Person, asked: Question, answer: Answer, *, here: bool = False
) -> None:
    """Put an answer into the journal; where it is refused, that. Raises Refused or UsageError, as core.answers.give."""
    from irflow.core.answers import give, reject
    from irflow.core.errors import Refused

    name, method = person.operator.name, person.method
    try:
        store.transact(lambda tx: give(tx, incident, person.operator, asked.id, answer, method=method, here=here))
    except Refused as error:
        reason = str(error)
        store.transact(lambda tx: reject(tx, incident, asked.id, who=name, method=method, reason=reason))
        raise


@dataclass
class Walk:
    """One person's way through the questions of an incident; Ctrl-C leaves it, what was answered stays.

    phase: only its questions, and whoever walks goes on with it: the walk ends when nothing of it waits. who, code: of
    --as and --code; the code is good for the first answer. names: who has answered on this walk.
    """

    config: Configuration
    store: Store
    incident: str
    phase: str | None = None
    who: str | None = None
    code: str | None = None
    names: set[str] = field(default_factory=set)

    def go(self, key: str | None = None) -> None:
        """Ask until nothing waits. key: the step to begin with."""
        from irflow.adapters.wake import wake

        while (asked := self._next(key)) is not None:
            key = None
            self._ask(asked)
            wake(self.config.settings.responder_socket)
            nobody_works(self.config, self.store)
        if self.phase is None:
            say("nothing waits for a person now")

    def _ask(self, asked: Question) -> None:
        from irflow.core.briefing import briefing
        from irflow.core.errors import Refused, UsageError
        from irflow.core.ports import SystemClock

        status, here = self._status(), self.phase is not None
        number = status.incident.number
        _show(briefing(asked, status, self.config.catalog.actions, SystemClock().now()), number)
        try:
            answer = _prompted(asked)
            person = identify(self.config, self.store, self.who, self.code, f"step {number}")
            self.names.add(person.operator.name)
            write_down(self.store, self.incident, person, asked, answer, here=here)
        except (Refused, UsageError) as error:
            progress(f"not taken: {error}")
        else:
            say(f"{person.operator.name}: {answer.choice}, {asked.title}")
        finally:
            self.code = None  # a code is taken once

    def _status(self) -> IncidentStatus:
        from irflow.core.status import fold

        return fold(self.store.events(self.incident))

    def _next(self, key: str | None) -> Question | None:
        """The next question for this person; waits for it while something is being done, or by somebody else."""
        from irflow.core.questions import questions

        pause, told = threading.Event(), ""
        while True:
            status = self._status()
            waiting = [one for one in questions(status) if self.phase in (None, one.phase)]
            mine = [one for one in waiting if not self.names & set(one.said)]
            if mine:
                return next((one for one in mine if key in (one.step.key, one.id)), mine[0])
            why = self._patience(status, waiting)
            if not why:
                return None
            if told != why:
                progress(f"{why} (Ctrl-C leaves, what was answered stays)")
                told = why
            pause.wait(LOOK_S)

    def _patience(self, status: IncidentStatus, waiting: list[Question]) -> str:
        """What the walk waits for; empty when it is over."""
        from irflow.core.progress import runnable, to_ask
        from irflow.core.status import State

        if waiting:
            more = waiting[0].people - len(waiting[0].said)
            return f"{waiting[0].title}: {more} more must agree, at another terminal or in Prefect"
        if not status.open or self.phase is not None:
            return ""
        plans = [one.plan for one in status.phases.values() if one.plan and not one.ended_at and not one.stale]
        busy = any(runnable(status, plan) or to_ask(status, plan) for plan in plans)
        begun = any(one.state is State.OPEN for one in status.steps.values())
        return "working; the next question comes by itself" if busy or begun else ""


def _show(told: Briefing, number: str) -> None:
    from irflow.core.briefing import lines

    say("")
    say(f"{number}: {told.title}")
    for heading, texts in lines(told):
        say(f"  {heading}")
        for text in texts:
            say(f"    {text}")


def _prompted(asked: Question) -> Answer:
    """What the person types; asked again until it can be an answer."""
    from irflow.core.answers import Answer
    from irflow.core.questions import Choice

    names = [one.value for one in asked.choices]
    said = ""
    while said not in names:
        typed = typer.prompt("/".join(names), err=True).strip().lower()
        near = [name for name in names if name.startswith(typed)]
        said = near[0] if len(near) == 1 else typed
    choice = Choice(said)
    fields = {}
    for name, parameter in asked.fields.items() if choice is Choice.DONE else ():
        value = typer.prompt(_label(name, parameter), default="", show_default=False, err=True)
        if value:
            fields[name] = value
    evidence = typer.prompt("evidence", default="", show_default=False, err=True) if choice is Choice.DONE else ""
    note = typer.prompt("note", default="", show_default=False, err=True)
    return Answer(choice, note, evidence, fields)


def _label(name: str, parameter: Parameter) -> str:
    choices = f" ({'/'.join(parameter.choices)})" if parameter.choices else ""
    return f"{name.replace('_', ' ')}{choices}{'' if parameter.required else ', if any'}"
