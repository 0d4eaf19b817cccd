"""The forms that start runbooks and playbooks, and what is made of them when they come back."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped] # comes with Prefect, which checks forms with it
import pytest
from pydantic import ValidationError

from irflow.core.approvals import Operator
from irflow.core.errors import IrflowError, Refused, UsageError
from irflow.core.forms import duration_text, field_of, needs_hosts, playbook_form, runbook_form, targets_used
from irflow.core.identity import Access
from irflow.core.inventory import Host, Inventory
from irflow.core.mode import Mode
from irflow.core.orders import Order, arguments_in, order_of, report_of
from irflow.core.playbook import Playbook
from irflow.core.runbook import Parameter, Runbook
from irflow.core.severity import Severity

HOSTS = {
    name: Host(name=name, address="192.0.2.1", key="file:key", groups=groups)
    for name, groups in {"web-1": ("web",), "web-2": ("web",), "db-1": ()}.items()
}
INVENTORY = Inventory(hosts=HOSTS)
PEOPLE = (
    Operator(name="zoe", login="zoe", roles=(), totp="file:zoe"),
    Operator(name="adam", login="adam", roles=(), totp="file:adam"),
    Operator(name="looker", login="looker", roles=(), totp="file:looker", access=Access.MONITOR),
    Operator(name="phoneless", login="root", roles=()),
)
LIST = {"type": "array", "uniqueItems": True, "maxItems": 1000}
GROUPS = "Groups: web (web-1, web-2)"
NAMES = f"Names of the inventory. {GROUPS}"

CUT = Runbook.model_validate({
    "runbook": "cut", "title": "Cut",
    "parameters": {
        "hosts": {"type": "hosts", "required": True, "description": "Hosts to cut"},
        "lease": {"type": "duration", "default": "8h"},
        "keep_open": {"type": "strings", "default": []},
    },
    "steps": [{"id": "tell", "title": "Tell", "manual": "Tell {{ incident.accounts }}"}],
})  # fmt: skip
ROTATE = Runbook.model_validate({
    "runbook": "rotate", "title": "Rotate", "parameters": {"secrets": {"type": "strings", "required": True}},
    "steps": [{"id": "tell", "title": "Tell", "manual": "Tell"}],
})  # fmt: skip
RUNBOOKS = {"cut": CUT, "rotate": ROTATE}
CALL_CUT = {"runbook": "cut", "with": {"hosts": "{{ incident.hosts }}"}}
CALL_ROTATE = {"runbook": "rotate", "with": {"secrets": "{{ incident['secrets'] }}"}}


def playbook(*containment: dict[str, Any], **more: Any) -> Playbook:
    return Playbook.model_validate({
        "playbook": "p", "title": "P", "match": {"types": ["a"]}, "phases": {"containment": containment}, **more,
    })  # fmt: skip


SIGNED = {"reason": "a beacon", "operator": "zoe", "code": "012345"}
CUT_FORM = {**SIGNED, "hosts": ["web-1"], "lease": "2h", "keep_open": [], "incident": "", "mode": "step"}
REPORT = {**SIGNED, "title": "a beacon", "severity": "high", "hosts": ["web-1"]}


@pytest.mark.parametrize(
    ("parameter", "field"),
    [
        ({"type": "hosts", "required": True, "description": "Where"},
         {**LIST, "minItems": 1, "items": {"type": "string", "enum": list(HOSTS)}, "description": f"Where. {GROUPS}"}),
        ({"type": "hosts"},
         {**LIST, "items": {"type": "string", "enum": list(HOSTS)}, "description": NAMES}),
        ({"type": "host"},
         {"type": "string", "enum": list(HOSTS), "description": NAMES}),
        ({"type": "duration", "default": "8h"},
         {"type": "string", "pattern": "^[1-9][0-9]*[smhdw]$", "default": "8h"}),
        ({"type": "duration", "default": 5400},
         {"type": "string", "pattern": "^[1-9][0-9]*[smhdw]$", "default": "90m"}),
        ({"type": "addresses", "default": []},
         {**LIST, "items": {"type": "string", "pattern": "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$"}, "default": []}),
        ({"type": "strings", "required": True},
         {**LIST, "minItems": 1, "items": {"type": "string", "minLength": 1}}),
        ({"type": "strings", "choices": ["a", "b"]}, {**LIST, "items": {"type": "string", "enum": ["a", "b"]}}),
        ({"type": "string", "required": True}, {"type": "string", "minLength": 1}),
        ({"type": "string", "choices": ["a", "b"], "default": "a", "description": "Which"},
         {"type": "string", "enum": ["a", "b"], "minLength": 0, "default": "a", "description": "Which"}),
        ({"type": "integer", "default": 3}, {"type": "integer", "default": 3}),
        ({"type": "boolean", "default": False}, {"type": "boolean", "default": False}),
    ],
)  # fmt: skip
def test_a_parameter_becomes_a_typed_field(parameter: dict[str, Any], field: dict[str, Any]) -> None:
    assert field_of(Parameter.model_validate(parameter), INVENTORY) == field


@pytest.mark.parametrize(
    ("value", "text"), [("8h", "8h"), (60, "1m"), (61, "61s"), (86400, "1d"), ("14d", "2w"), (604800.0, "1w")]
)
def test_a_default_duration_is_shown_as_people_write_it(value: Any, text: str) -> None:
    assert duration_text(value) == text


def test_the_form_of_a_runbook_asks_its_parameters_first_and_then_what_every_form_asks() -> None:
    form = runbook_form(CUT, INVENTORY, PEOPLE)
    fields = form["properties"]
    assert list(fields) == ["hosts", "lease", "keep_open", "reason", "incident", "mode", "operator", "code"]
    assert [one["position"] for one in fields.values()] == list(range(8))
    assert form["required"] == ["hosts", "reason", "operator", "code"]
    assert fields["keep_open"]["title"] == "Keep open"
    assert fields["operator"]["enum"] == ["adam", "zoe"]
    assert (fields["mode"]["enum"], fields["mode"]["default"]) == (["automatic", "approve", "step"], "automatic")
    assert all(one in fields["mode"]["description"] for one in Mode)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hosts": []}, {"hosts": ["nobody"]}, {"hosts": ["web-1", "web-1"]}, {"lease": "8 hours"}, {"lease": "0h"},
        {"reason": "no"}, {"mode": "fast"}, {"operator": "eve"}, {"code": "12345"}, {"code": "１２３４５６"},
        {"incident": "the last one"}, {"colour": "red"}, {"keep_open": [""]},
    ],
)  # fmt: skip
def test_the_schema_of_a_runbook_refuses_what_is_wrong(wrong: dict[str, Any]) -> None:
    schema = runbook_form(CUT, INVENTORY, PEOPLE)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(CUT_FORM, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**CUT_FORM, **wrong}, schema)


def test_without_hosts_and_operators_the_schema_still_holds_and_says_what_is_missing() -> None:
    schema = runbook_form(CUT, Inventory(), PEOPLE[2:])
    assert "Nobody who may start a runbook has a key" in schema["properties"]["operator"]["description"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({**CUT_FORM, "hosts": ["x"]}, schema)


@pytest.mark.parametrize(
    ("calls", "used", "needed"),
    [
        ((CALL_CUT,), ("hosts", "accounts"), True),
        ((CALL_ROTATE,), ("secrets",), False),
        ((CALL_ROTATE, CALL_CUT), ("hosts", "accounts", "secrets"), False),
        ((), (), False),
    ],
)
def test_a_playbook_asks_for_the_targets_that_it_reads(
    calls: tuple[dict[str, Any], ...], used: tuple[str, ...], needed: bool
) -> None:
    one = playbook(*calls)
    assert targets_used(one, RUNBOOKS) == used
    assert needs_hosts(one, RUNBOOKS) is needed
    form = playbook_form(one, RUNBOOKS, INVENTORY, PEOPLE, ["app-db"])
    assert list(form["properties"]) == ["title", "severity", *used, "reason", "mode", "operator", "code"]
    assert ("hosts" in form["required"]) is needed
    jsonschema.Draft202012Validator.check_schema(form)
    if "secrets" in used:
        assert form["properties"]["secrets"]["items"]["enum"] == ["app-db"]


def test_the_severity_is_the_persons_choice_among_those_of_the_playbook() -> None:
    one = playbook(CALL_CUT, match={"types": ["a", "b"], "severity": ["critical", "high"]})
    form = playbook_form(one, RUNBOOKS, INVENTORY, PEOPLE)
    assert form["properties"]["severity"]["enum"] == ["critical", "high"]
    assert "default" not in form["properties"]["severity"]
    assert "severity" in form["required"]
    assert (form["properties"]["type"]["enum"], form["properties"]["type"]["default"]) == (["a", "b"], "a")


@pytest.mark.parametrize("name", ["mode", "reason", "incident", "operator", "code"])
def test_no_parameter_may_bear_the_name_of_a_field_of_every_form(name: str) -> None:
    content = {**CUT.model_dump(exclude={"steps"}), "steps": CUT.model_dump(by_alias=True)["steps"]}
    with pytest.raises(ValidationError, match=name):
        Runbook.model_validate({**content, "parameters": {name: {"type": "string"}}})


def test_what_comes_back_is_read_anew() -> None:
    assert order_of({**CUT_FORM, "code": "012 345", "reason": " a  beacon\n"}) == Order(
        "zoe", "012345", "a beacon", Mode.STEP, ""
    )
    assert order_of(SIGNED).mode is Mode.AUTOMATIC
    assert arguments_in({**CUT_FORM, "lease": ""}, CUT) == {"hosts": ["web-1"], "keep_open": []}


def test_a_person_who_names_nothing_that_is_required_forgot_it() -> None:
    with pytest.raises(UsageError, match="hosts: name at least one"):
        arguments_in({**CUT_FORM, "hosts": []}, CUT)


def test_a_code_is_not_shown_with_its_order() -> None:
    assert "012345" not in repr(order_of(SIGNED))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "fast"}, "mode"), ({"mode": ["step"]}, "mode: not a text"), ({"code": "12345"}, "code"),
        ({"code": None}, "code"), ({"code": 123456}, "code"), ({"reason": "no"}, "reason"),
        ({"reason": "x" * 501}, "reason"), ({"reason": None}, "reason"), ({"incident": "; rm"}, "incident"),
        ({"operator": {}}, "operator"),
    ],
)  # fmt: skip
def test_a_wrong_common_field_is_named_whoever_checked_it_before(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        order_of({**CUT_FORM, **wrong})


def test_a_report_has_typed_targets() -> None:
    found = report_of({**REPORT, "accounts": ["eve"]}, playbook(CALL_CUT), RUNBOOKS, INVENTORY)
    assert (found.title, found.type, found.severity) == ("a beacon", "a", Severity.HIGH)
    assert found.targets == {"hosts": ("web-1",), "accounts": ("eve",)}


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"hosts": []}, UsageError, "hosts: name at least one"),
        ({"hosts": ["nobody"]}, Refused, "no host 'nobody'"),
        ({"hosts": {"a": 1}}, UsageError, "hosts: expected a list"),
        ({"severity": "none"}, UsageError, "severity"),
        ({"severity": None}, UsageError, "severity"),
        ({"type": "other"}, UsageError, "type"),
        ({"title": ""}, UsageError, "title"),
        ({"addresses": ["192.0.2.1"]}, UsageError, "no field 'addresses'"),
        ({"accounts": ["x"] * 1001}, UsageError, "more than 1000"),
    ],
)
def test_a_wrong_report_is_refused(wrong: dict[str, Any], kind: type[IrflowError], message: str) -> None:
    with pytest.raises(kind, match=message):
        report_of({**REPORT, **wrong}, playbook(CALL_CUT), RUNBOOKS, INVENTORY)


def test_a_report_about_nothing_is_refused() -> None:
    form = {name: value for name, value in REPORT.items() if name != "hosts"}
    with pytest.raises(UsageError, match="at least one of hosts, accounts, secrets"):
        report_of(form, playbook(CALL_ROTATE, CALL_CUT), RUNBOOKS, INVENTORY)
