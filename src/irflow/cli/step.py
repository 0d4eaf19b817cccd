"""`irflow step`: one answer to what waits, or a walk through all of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, nobody_works, say
from irflow.cli.pairs import pairs
from irflow.cli.person import As, Code, Json, Name, find, identify
from irflow.cli.walk import Walk, write_down

if TYPE_CHECKING:
    from irflow.core.ports import Store
    from irflow.core.questions import Question
    from irflow.core.status import IncidentStatus
    from irflow.wiring import Configuration


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
    from irflow.core.errors import UsageError
    from irflow.wiring import open_store

    config = configuration()
    said = decision or outcome
    if decision and outcome:
        raise UsageError("one answer at a time", hint="Give --decision or --outcome")
    with open_store(config.settings) as store:
        found = find(store, incident)
        if not (said or note or evidence or field or json) and sys.stdin.isatty():
            Walk(config, store, found.id, who=who, code=code).go(key)
            return
        done = _once(config, store, found.id, key, said, note, evidence, pairs(field or [], "--field"), who, code)
        nobody_works(config, store)
    dump(done) if json else say(f"{done['answer']}: {done['step']}")


def _once(
    config: Configuration, store: Store, incident: str, key: str | None, said: str | None, note: str, evidence: str,
    fields: dict[str, str], who: str | None, code: str | None,
) -> dict[str, Any]:  # fmt: skip
    """One answer, as the options say."""
    from irflow.adapters.wake import wake
    from irflow.core import decisions
    from irflow.core.answers import Answer
    from irflow.core.errors import UsageError
    from irflow.core.questions import Ask, Choice, questions
    from irflow.core.status import fold

    status = fold(store.events(incident))
    asked = _chosen(status, key, said)
    said = said or ("done" if asked is None or asked.ask is Ask.MANUAL else None)
    if said is None or said not in set(Choice):
        choices = asked.choices if asked else decisions.ANSWERS
        raise UsageError(f"say what to do about {key or 'it'}", hint=f"--decision {' | '.join(choices)}")
    if asked is None and said not in decisions.ANSWERS:
        waiting = ", ".join(one.step.key for one in questions(status) if said in one.choices)
        raise UsageError(f"{key} waits for no decision", hint=f"That wait for one: {waiting or 'none'}")
    if fields and said != Choice.DONE:
        raise UsageError(f"--field is for what was done, not for {said}", hint="Say it with --note")
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
        write_down(store, incident, person, asked, answer)
    wake(config.settings.responder_socket)
    return {"step": name, "answer": said, "operator": person.operator.name, "method": person.method}


def _chosen(status: IncidentStatus, key: str | None, said: str | None) -> Question | None:
    """The question that is meant; None for a step that waits for no answer. Raises UsageError when several could be."""
    from irflow.core.errors import UsageError
    from irflow.core.questions import Ask, Choice, questions

    asked = questions(status)
    waiting = every = [one for one in asked if one.ask is not Ask.APPROVAL]
    if key is not None:
        return next((one for one in waiting if key in (one.step.key, one.id)), None)
    if said in set(Choice):
        waiting = [one for one in waiting if said in one.choices]
    elif said is None:
        waiting = [one for one in waiting if one.ask is Ask.MANUAL] or waiting
    if not waiting:
        number = status.incident.number
        if every:
            raise UsageError(f"{said} is no answer here", hint=f"Say {', '.join(every[0].choices)}")
        if asked:
            raise UsageError(f"the {asked[0].phase} plan waits for an approval", hint=f"irflow approve {number}")
        raise UsageError(f"no step of {number} waits for an answer", hint=f"See irflow incidents show {number}")
    if len(waiting) != 1:
        names = ", ".join(one.step.key for one in waiting)
        raise UsageError("say which step", hint=f"Waiting: {names or 'none'}")
    return waiting[0]
