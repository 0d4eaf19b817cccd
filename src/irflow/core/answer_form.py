"""The form that asks a question outside irflow: its JSON schema, and what was filled in as an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from irflow.core.answers import Answer
from irflow.core.approvals import Operator
from irflow.core.errors import UsageError
from irflow.core.forms import CODE, field_of
from irflow.core.identity import Deed, allows
from irflow.core.inventory import Inventory
from irflow.core.model import Json
from irflow.core.questions import Ask, Choice, Question
from irflow.core.runbook import Parameter

MOST_TEXT = 4000
"""Characters of a note: enough for what happened, too few to fill a journal with."""


def schema(asked: Question, operators: Iterable[Operator]) -> dict[str, Json]:
    """The JSON schema of the form. What decides has no default, so an empty form answers nothing.

    operators: all; those who may answer and have a one-time code are offered.
    """
    manual = asked.ask is Ask.MANUAL
    choice: dict[str, Json] = {
        "title": "Outcome" if manual else "Decision", "type": "string", "enum": [one.value for one in asked.choices],
    }  # fmt: skip
    properties: dict[str, dict[str, Json]] = {"outcome" if manual else "decision": choice}
    for name, parameter in asked.fields.items():
        properties[name] = _field(name, parameter)
    if manual:
        properties["evidence"] = _text("Evidence", "Where it can be seen: a ticket, a file, a name.")
    properties["note"] = _text("Note", "Kept in the journal, with your name.")
    properties["operator"] = _operator(asked, operators)
    properties["code"] = {
        "title": "One-time code", "type": "string", "pattern": CODE,
        "description": "The six digits that your phone shows now. Each is taken once.",
    }  # fmt: skip
    for position, one in enumerate(properties.values()):
        one["position"] = position
    required = ["outcome" if manual else "decision", "operator", "code"]
    return {"title": "Answer", "type": "object", "properties": properties, "required": required,
            "additionalProperties": False}  # fmt: skip


def _text(title: str, description: str) -> dict[str, Json]:
    return {"title": title, "type": "string", "description": description, "default": "", "maxLength": MOST_TEXT}


def _field(name: str, parameter: Parameter) -> dict[str, Json]:
    made = field_of(parameter, Inventory())
    made.pop("minItems", None)  # nothing is needed of a step that was not done
    text = made.pop("description", "")
    needed = "needed when it is done" if parameter.required and parameter.default is None else ""
    told = "; ".join(filter(None, (text, needed)))
    return {"title": name.replace("_", " ").capitalize(), **({"description": told} if told else {}), **made}


def _operator(asked: Question, operators: Iterable[Operator]) -> dict[str, Json]:
    deed = Deed.ANSWER if asked.ask is Ask.MANUAL else Deed.APPROVE
    able = [
        one.name for one in operators if set(one.roles) & set(asked.roles) and one.totp and allows(one.access, deed)
    ]
    if able:
        return {"title": "Operator", "type": "string", "enum": able, "description": "Who you are."}
    missing = f"Nobody with the role {' or '.join(asked.roles)} has a one-time code: irflow operators add"
    return {"title": "Operator", "type": "string", "minLength": 2, "description": missing}


def filled_in(asked: Question | None, given: Mapping[str, Json]) -> tuple[str, str, Answer]:
    """(operator, code, answer) from what a form sent. asked: the question, None once it does not wait any more.

    Raises UsageError for what the form could not have sent.
    """
    rest = dict(given)
    said = rest.pop("outcome", None) or rest.pop("decision", None)
    if not isinstance(said, str) or said not in set(Choice):
        raise UsageError(f"{str(said)[:40]!r} is no answer", hint="Use the form of the run")
    texts = {name: rest.pop(name, None) or "" for name in ("note", "evidence", "operator", "code")}
    if not all(isinstance(one, str) and len(one) <= MOST_TEXT and _writable(one) for one in texts.values()):
        raise UsageError("note, evidence, operator and code are texts", hint="Use the form of the run")
    fields = rest if asked is None or asked.fields else {}
    return texts["operator"], texts["code"], Answer(Choice(said), texts["note"], texts["evidence"], fields)


def _writable(text: str) -> bool:
    """Whether the journal can hold it: no zero character, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text)
