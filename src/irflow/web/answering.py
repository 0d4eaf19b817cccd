"""`POST /incidents/N/questions/ID`: an answer from the form to the journal, or back to the form with the reason."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from fastapi import Response

from irflow.core import answers
from irflow.core.answers import Answer
from irflow.core.errors import IrflowError, Refused, UsageError
from irflow.core.identity import Deed, allows
from irflow.core.incident import Incident
from irflow.core.journal import Event
from irflow.core.model import Json
from irflow.core.ports import Clock, Transaction
from irflow.core.questions import Choice, Question, question
from irflow.core.status import fold
from irflow.web.board import Board
from irflow.web.door import Visitor
from irflow.web.form import Form
from irflow.web.limit import Bucket
from irflow.web.pages import question_page
from irflow.web.questions import may_never
from irflow.web.screen import Screen, go_to

log = logging.getLogger(__name__)

METHOD = "token"
"""How approvals say that the operator was authenticated: by the token they logged in with."""
ANSWERS_PER_MINUTE = 30
"""Of one operator: what is refused goes on record too, and must not fill the journal."""
_ID = re.compile(r"\d{1,12}", re.ASCII)
_ONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_LONGEST = 10_000


class Share:
    """How many answers each operator may send. Of the event loop alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def pause(self, operator: str) -> int:
        """Count one. Returns 0, or after how many seconds the next is taken."""
        bucket = self._buckets.setdefault(operator, Bucket(ANSWERS_PER_MINUTE, self._clock))
        return bucket.take()


@dataclass(frozen=True)
class Answered:
    """What becomes of an answer. error: why it was not taken."""

    event: Event | None = None
    error: IrflowError | None = None


def answer_form(board: Board, screen: Screen, visitor: Visitor, incident: Incident, id_: str, form: Form) -> Response:
    """Give the answer. Returns where to go on, or the form with the error and all that was typed."""
    if not _ID.fullmatch(id_):
        return screen.message(404, "Not found", "There is no such question.", visitor)
    refused = _may_not(board, visitor, incident, id_)
    if refused:
        log.warning("%s may not answer %s of %s: %s", visitor.operator.name, id_, incident.number, refused)
        return screen.message(403, "Not yours to answer", refused, visitor)
    done = _give(board, visitor, incident, id_, form)
    if done.error is None:
        board.wake()
        said = f"?answered={done.event.seq}" if done.event else ""
        return go_to(f"/incidents/{incident.number}{said}")
    log.info("an answer of %s to %s of %s: %s", visitor.operator.name, id_, incident.number, done.error)
    status = 409 if isinstance(done.error, Refused) else 422
    return question_page(board, screen, visitor, incident, id_, typed=form, error=str(done.error), status=status)


def _may_not(board: Board, visitor: Visitor, incident: Incident, id_: str) -> str:
    """Why the operator's access does not reach as far; such an attempt is logged and writes nothing."""
    if not allows(visitor.operator.access, Deed.ANSWER):
        return f"{visitor.operator.name} has access {visitor.operator.access}, which may look only."
    asked = board.statuses.look(incident.id, lambda status: question(status, id_))
    return may_never(visitor.operator, asked) if asked else ""


def _give(board: Board, visitor: Visitor, incident: Incident, id_: str, form: Form) -> Answered:
    once = form.text("once")
    name = f"page:{once}" if _ONCE.fullmatch(once) else ""

    def work(tx: Transaction) -> Event | None:
        asked = question(fold(tx.events(incident.id)), id_)
        if asked is not None and form.text("digest") != asked.digest:
            raise Refused("the plan has changed since you saw it, so your answer was not taken", hint="Look again")
        answer = _answer(asked, form)
        return answers.give(tx, incident.id, visitor.operator, id_, answer, method=METHOD, form=name)

    try:
        return Answered(board.store.transact(work))
    except (Refused, UsageError) as error:
        reason = str(error)
        who = visitor.operator.name
        board.store.transact(lambda tx: answers.reject(tx, incident.id, id_, who=who, method=METHOD, reason=reason))
        return Answered(error=error)


def _answer(asked: Question | None, form: Form) -> Answer:
    """The form as an answer. Raises UsageError when nothing was chosen, or a text is too long."""
    try:
        choice = Choice(form.text("choice"))
    except ValueError:
        raise UsageError("no answer was chosen", hint="Choose one") from None
    for name in form.names():
        if len(form.text(name)) > _LONGEST:
            raise UsageError(f"{name.removeprefix('field.')} is longer than {_LONGEST} characters")
    fields: dict[str, Json] = {}
    for name, parameter in asked.fields.items() if asked and choice is Choice.DONE else ():
        given = form.texts(f"field.{name}")
        if parameter.type.value.endswith("s"):  # one a line, or with commas
            fields[name] = [one.strip() for text in given for one in re.split(r"[,\n]", text) if one.strip()]
        else:
            fields[name] = given[0].strip() if given else ""
    return Answer(choice, form.text("note").strip(), form.text("evidence").strip(), fields)
