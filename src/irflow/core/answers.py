"""What a person answers to a question: checked and written down in one transaction, whichever way it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.arguments import typed
from irflow.core.errors import Refused, UsageError
from irflow.core.identity import Deed, require
from irflow.core.journal import Draft, Event, Kind
from irflow.core.model import Json, to_text
from irflow.core.ports import Transaction
from irflow.core.questions import Ask, Choice, Question, question
from irflow.core.status import IncidentStatus, fold


@dataclass(frozen=True)
class Answer:
    """What a person says. evidence: where it can be seen, in the person's words. fields: as the runbook asks for."""

    choice: Choice
    note: str = ""
    evidence: str = ""
    fields: Mapping[str, Json] = field(default_factory=dict)


def give(
    tx: Transaction, incident: str, operator: Operator, id_: str, answer: Answer, *, method: str, form: str = "",
    here: bool = False,
) -> Event | None:  # fmt: skip
    """Write down an answer. Returns its event; None when the same form's answer is written down already.

    id_: of the question. method: how the operator was authenticated. form: of Prefect that it came by, if any. here: as
    for decisions.see_to_it.
    Raises Refused when the question does not wait any more or is another role's, UsageError for what cannot be said.
    """
    status = fold(tx.events(incident))
    if form and form in status.forms:
        return None
    asked = question(status, id_)
    if asked is None:
        raise Refused(_too_late(status, id_), hint=f"See what waits: irflow incidents show {status.incident.number}")
    if answer.choice not in asked.choices:
        raise UsageError(f"{answer.choice} is no answer here", hint=f"Say {', '.join(asked.choices)}")
    if asked.ask is Ask.APPROVAL:
        yes = answer.choice is Choice.PROCEED
        return decisions.decide(
            tx, incident, operator, method=method, digest=asked.digest, yes=yes, reason=answer.note, form=form,
            here=here,
        )  # fmt: skip
    if not set(asked.roles) & set(operator.roles):
        raise Refused(f"{operator.name} holds none of the roles {', '.join(asked.roles)}", hint="Ask one who does")
    if answer.choice in (Choice.DONE, Choice.FAILED, Choice.SKIPPED):
        filled = _filled(asked, answer) if answer.choice is Choice.DONE else {}
        return decisions.answer(
            tx, incident, operator, step=asked.step.key, outcome=answer.choice, note=answer.note, method=method,
            evidence=answer.evidence, facts=filled, form=form, here=here,
        )  # fmt: skip
    event = _decide(tx, status, operator, asked, answer, method, form)
    decisions.see_to_it(tx, status, asked.phase, event, here=here)
    return event


def _decide(
    tx: Transaction, status: IncidentStatus, operator: Operator, asked: Question, answer: Answer, method: str,
    form: str,
) -> Event:  # fmt: skip
    """One step of a plan that goes step by step."""
    require(operator, Deed.APPROVE)
    if answer.choice in (Choice.PROCEED, Choice.REPEAT) and operator.name in asked.said:
        raise Refused(f"{operator.name} has already said so", hint="Another person must be the second")
    role = next(one for one in asked.roles if one in operator.roles)
    data: dict[str, Json] = {
        "phase": asked.phase, "digest": asked.digest, "question": asked.id, "decision": answer.choice.value,
        "note": answer.note, "operator": operator.name, "role": role, "method": method, "people": asked.people,
        "again": list(asked.again) if answer.choice is Choice.REPEAT else [], "form": form,
    }  # fmt: skip
    key, target = asked.step.key, asked.step.target
    return tx.append(status.incident.id, Draft(Kind.STEP_DECIDED, f"operator:{operator.name}", data, key, target))[0]


def reject(
    tx: Transaction, incident: str, id_: str, *, who: str, method: str, reason: str, form: str = ""
) -> Event | None:
    """Put on record that an answer was not taken. who: whom it claimed to be from; nothing of it is proved."""
    status = fold(tx.events(incident))
    if form and form in status.forms:
        return None
    asked = question(status, id_)
    data: dict[str, Json] = {
        "question": id_, "operator": who, "method": method, "reason": reason, "form": form,
        "phase": asked.phase if asked else "",
    }  # fmt: skip
    return tx.append(incident, Draft(Kind.ANSWER_REJECTED, f"claimed:{who}", data))[0]


def _too_late(status: IncidentStatus, id_: str) -> str:
    number = status.incident.number
    if status.closed_at is not None:
        return f"{number} is closed since {to_text(status.closed_at)[:19]}Z, so the question does not stand any more"
    for known in status.steps.values():
        if str(known.asked_seq) == id_:
            state = known.state.value.replace("_", " ")
            return f"{known.key} does not wait for an answer any more: it has one, or its plan changed; it is {state}"
    return f"{number} does not ask this any more: its plan has changed, or it was answered"


def _filled(asked: Question, answer: Answer) -> dict[str, Json]:
    """The fields of a manual step, typed. Raises UsageError naming the first that is missing or wrong."""
    if unknown := sorted(set(answer.fields) - set(asked.fields)):
        raise UsageError(f"{asked.step.title} has no field {unknown[0]!r}", hint=_fields(asked))
    found: dict[str, Json] = {}
    for name, parameter in asked.fields.items():
        value = answer.fields.get(name)
        if value in (None, "", []):
            value = parameter.default
        if value is None:
            if parameter.required:
                raise UsageError(f"{asked.step.title}: {name} is missing", hint=_fields(asked))
            continue
        try:
            found[name] = typed(parameter, value)
        except ValueError as error:
            raise UsageError(f"{asked.step.title}: {name}: {error}") from None
    return found


def _fields(asked: Question) -> str:
    return f"It asks for {', '.join(asked.fields) or 'nothing more'}"
