"""`irflow step`: one answer to what waits, or a walk through all that waits, one question after the other."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, nobody_works, progress, say
from irflow.cli.person import As, Code, Json, Name, Person, find, identify

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


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(step)


def step(
    incident: Name,
    key: Annotated[str | None, typer.Argument(metavar="[STEP]", help="As `incidents show` names it.")] = None,
    decision: Annotated[
        str | None, typer.Option(help="proceed, skip, repeat or abort: for a run that goes step by step.")
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="done, skipped or failed: how a manual step went.")] = None,
    note: Annotated[str, typer.Option(help="What was done or seen.")] = "",
    evidence: Annotated[str, typer.Option(help="Where it can be seen: a ticket, a file, a name.")] = "",
    field: Annotated[
        list[str] | None, typer.Option("--field", metavar="K=V", help="What a manual step asks for; repeat for each.")
    ] = None,
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Answer what waits. On a terminal, without options: one question after the other, until nothing waits.

    Example: irflow step IR-2026-0001 --note 'called the owner'
    """
    from irflow.wiring import open_store

    config = configuration()
    said = decision or outcome
    with open_store(config.settings) as store:
        found = find(store, incident)
        if not (said or note or evidence or field or json) and sys.stdin.isatty():
            walk(config, store, found.id, key, who, code)
            return
        done = _once(config, store, found.id, key, said, note, evidence, _fields(field or []), who, code)
    nobody_works(config)
    dump(done) if json else say(f"{done['answer']}: {done['step']}")


def _fields(texts: list[str]) -> dict[str, str]:
    from irflow.core.errors import UsageError

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--field {text}: write K=V")
        found[name] = value
    return found


def _once(
    config: Configuration, store: Store, incident: str, key: str | None, said: str | None, note: str, evidence: str,
    fields: dict[str, str], who: str | None, code: str | None,
) -> dict[str, Any]:  # fmt: skip
    """One answer, as the options say."""
    from irflow.adapters.wake import wake
    from irflow.core import decisions
    from irflow.core.answers import Answer
    from irflow.core.errors import UsageError
    from irflow.core.questions import Ask, Choice
    from irflow.core.status import fold

    status = fold(store.events(incident))
    asked = _chosen(status, key, said)
    said = said or ("done" if asked is None or asked.ask is Ask.MANUAL else None)
    if said is None or said not in set(Choice):
        choices = asked.choices if asked else decisions.ANSWERS
        raise UsageError(f"say what to do about {key or 'it'}", hint=f"--decision {' | '.join(choices)}")
    person = identify(config, store, who, code, f"step {status.incident.number}")
    if asked is None:  # what failed, or could not be taken back, and was dealt with by hand
        name = key or ""
        store.transact(
            lambda tx: decisions.answer(
                tx, incident, person.operator, step=name, outcome=said, note=note, method=person.method
            )
        )
    else:
        name, answer = asked.step.key, Answer(Choice(said), note, evidence, fields)
        _write_down(store, incident, person, asked, answer)
    wake(config.settings.responder_socket)
    return {"step": name, "answer": said, "operator": person.operator.name, "method": person.method}


def _chosen(status: IncidentStatus, key: str | None, said: str | None) -> Question | None:
    """The question that is meant; None for a step that waits for no answer. Raises UsageError when several could be."""
    from irflow.core.errors import UsageError
    from irflow.core.questions import Ask, Choice, questions

    waiting = [one for one in questions(status) if one.ask is not Ask.APPROVAL]
    if key is not None:
        return next((one for one in waiting if key in (one.step.key, one.id)), None)
    if said in set(Choice):
        waiting = [one for one in waiting if said in one.choices]
    elif said is None:
        waiting = [one for one in waiting if one.ask is Ask.MANUAL] or waiting
    if len(waiting) != 1:
        names = ", ".join(one.step.key for one in waiting)
        raise UsageError("say which step", hint=f"Waiting: {names or 'none'}")
    return waiting[0]


# ---------------------------------------------------------------- one question after the other


def walk(
    config: Configuration, store: Store, incident: str, key: str | None, who: str | None, code: str | None,
    *, phase: str | None = None,
) -> None:  # fmt: skip
    """Ask what waits until nothing does, or the person has had enough (Ctrl-C; what was answered stays).

    key: begin with this step. phase: only its questions, and whoever calls goes on with it. code: good for the first
    answer.
    """
    from irflow.adapters.wake import wake
    from irflow.core.briefing import briefing
    from irflow.core.errors import Refused, UsageError
    from irflow.core.ports import SystemClock
    from irflow.core.status import fold

    while (asked := _next(store, incident, key, phase)) is not None:
        key, status = None, fold(store.events(incident))
        _show(briefing(asked, status, config.catalog.actions, SystemClock().now()), status.incident.number)
        try:
            answer = _prompted(asked)
            person = identify(config, store, who, code, f"step {status.incident.number}")
            _write_down(store, incident, person, asked, answer, here=phase is not None)
        except (Refused, UsageError) as error:
            progress(f"not taken: {error}")
        else:
            say(f"{person.operator.name}: {answer.choice}, {asked.title}")
        finally:
            code = None  # a code is taken once
        wake(config.settings.responder_socket)
        nobody_works(config)
    say("nothing waits for a person now")


def _write_down(
    store: Store, incident: str, person: Person, asked: Question, answer: Answer, *, here: bool = False
) -> None:
    from irflow.core.answers import give

    store.transact(lambda tx: give(tx, incident, person.operator, asked.id, answer, method=person.method, here=here))


def _next(store: Store, incident: str, key: str | None, phase: str | None) -> Question | None:
    """The next question; waits for it while something is being done."""
    from irflow.core.progress import runnable, to_ask
    from irflow.core.questions import questions
    from irflow.core.status import State, fold

    pause, told = threading.Event(), False
    while True:
        status = fold(store.events(incident))
        waiting = [one for one in questions(status) if phase in (None, one.phase)]
        if waiting:
            return next((one for one in waiting if key in (one.step.key, one.id)), waiting[0])
        plans = [one.plan for one in status.phases.values() if one.plan and not one.ended_at and not one.stale]
        busy = any(runnable(status, plan) or to_ask(status, plan) for plan in plans) or any(
            one.state is State.OPEN for one in status.steps.values()
        )
        if not status.open or not busy or phase is not None:
            return None
        if not told:
            progress("working; the next question comes by itself (Ctrl-C leaves, what was answered stays)")
            told = True
        pause.wait(LOOK_S)


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
