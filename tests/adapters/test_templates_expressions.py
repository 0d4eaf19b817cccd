"""Expressions: values stay values, hostile text stays text, and nothing an expression says can run away."""

from __future__ import annotations

import time

import pytest

from irflow.adapters.templates import SandboxExpressions
from irflow.core.errors import ConfigurationError
from irflow.core.model import Json

SCOPE: dict[str, Json] = {
    "hosts": ["web-1", "web-2"],
    "item": "web-1",
    "lease": 28800.0,
    "incident": {
        "hosts": ["web-1"],
        "title": "{{ 7*7 }}{% for x in y %}",
        "items": ["a key, not a method"],
        "playbook": None,
    },
    "results": {"triage.facts@web-1": {"uid": 0, "root": True}},
}


def evaluate(text: str, **more: Json) -> Json:
    return SandboxExpressions().evaluate(text, {**SCOPE, **more})


def refused(text: str, **more: Json) -> str:
    with pytest.raises(ConfigurationError) as caught:
        evaluate(text, **more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ hosts }}", ["web-1", "web-2"]),
        ("  {{ hosts }}\n", ["web-1", "web-2"]),
        ("{{- lease -}}", 28800.0),
        ("{{ incident.playbook }}", None),
        ("{{ results['triage.facts@web-1'].root }}", True),
        ("{{ incident.items }}", ["a key, not a method"]),
        ("{{ hosts + ['web-3'] }}", ["web-1", "web-2", "web-3"]),
        ("{{ hosts | length > 1 and 'web-1' in hosts }}", True),
        ("{{ [item, {'a': 1}] }}", ["web-1", {"a": 1}]),
        ("{{ hosts | reject('equalto', 'web-1') }}", ["web-2"]),
        ("{{ nothing | default(hosts) }}", ["web-1", "web-2"]),
        ("{{ 'yes' if item == 'web-1' else 'no' }}", "yes"),
    ],
)
def test_a_lone_expression_gives_its_value(text: str, value: Json) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Call {{ hosts | join(', ') }} for {{ lease }} s", "Call web-1, web-2 for 28800.0 s"),
        ("{{ item }}:{{ item }}", "web-1:web-1"),
        ("{{ '{{' }} {{ results['triage.facts@web-1'].root }}", "{{ true"),
        ("no expression", "no expression"),
        ("", ""),
        ("a } b { c %}", "a } b { c %}"),
    ],
)
def test_text_around_expressions_gives_text(text: str, value: str) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ 7*7 }}", "{% raw %}{{ x }}", "{# #}", "${7*7}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ hosts }}", "$(id)", "`id`", "'; drop table", "__import__('os').system('id')", "[1, 2]", "{'a': 1}", "None",
    ],
)  # fmt: skip
def test_hostile_values_come_out_as_they_went_in_and_are_never_evaluated(hostile: str) -> None:
    assert evaluate("{{ x }}", x=hostile) == hostile
    assert evaluate("a {{ x }} b", x=hostile) == f"a {hostile} b"
    assert evaluate("{{ x.y }}", x={"y": hostile}) == hostile
    assert evaluate("{{ [x] }}", x=hostile) == [hostile]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{{ hots }}", "'hots' is undefined. Did you mean 'hosts'?"),
        ("{{ [nope] }}", "'nope' is undefined"),
        ("a {{ nope }}", "'nope' is undefined"),
        ("{{ incident.nope }}", "no attribute 'nope'"),
        ("{{ incident.nope.nope }}", "no attribute 'nope'"),
        ("{{ hosts[9] }}", "9"),
    ],
)
def test_an_undefined_name_is_an_error_that_shows_expression_and_name(text: str, name: str) -> None:
    error = refused(text)
    assert text in error and name in error


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}", "{{ ''['__class__'] }}", "{{ hosts.__class__.__mro__ }}", "{{ hosts.append('x') }}",
        "{{ incident.items() }}", "{{ incident.pop }}", "{{ hosts | attr('append') }}", "{{ self }}",
        "{{ self.__init__.__globals__ }}", "{{ cycler.__init__ }}", "{{ lipsum }}", "{{ range(9) }}", "{{ dict(a=1) }}",
        "{{ hosts | map(attribute='__class__') }}", "{{ hosts | sort(attribute='__class__') }}",
        "{{ hosts | map('upper') }}", "{{ hosts | selectattr('x', 'callable') }}", "{{ '%s' | format(1) }}",
        "{{ '{0.__class__}'.format(1) }}", "{{ hosts | tojson }}", "{{ 'x' | safe }}", "{{ hosts | pprint }}",
        "{% for x in hosts %}{% endfor %}", "{% set x = 1 %}", "{# c #}", "{{ hosts }} {% if 1 %}{% endif %}",
        "{% include 'x' %}", "{{ joiner }}", "{{ namespace() }}", "{{ caller() }}", "{{ loop }}", "{{ 1 is callable }}",
    ],
)  # fmt: skip
def test_what_leads_out_of_the_sandbox_is_refused(text: str) -> None:
    assert text[:100] in refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a' * 1000000000 }}", "{{ hosts * 1000000000 }}", "{{ 10 ** 10 ** 10 }}", "{{ '%1000000000d' % 1 }}",
        "{{ range(1000000000) | list }}", "{{ 'a' | center(1000000000) }}", "{{ 'a' | indent(1000000000) }}",
        "{{ 'a' | replace('', 'aaaa') }}", "{{ 'a' | batch(1000000000) }}", "{{ 'a'.ljust(1000000000) }}",
        "{{ hosts | join(big) }}", "{{ " + "(" * 1900 + "1" + ")" * 1900 + " }}",
        "{{ " + "[" * 1900 + "]" * 1900 + " }}",
        "{{ " + "not " * 900 + "1 }}", "{{ " + " + ".join("1" for _ in range(900)) + " }}", "{{ " + "x" * 5000 + " }}",
        "{{ " + "-" * 900 + "1 }}", "{{ hosts" + "[0]" * 900 + " }}",
    ],
)  # fmt: skip
def test_a_bomb_is_refused_at_once(text: str) -> None:
    start = time.monotonic()
    refused(text, big="x" * 100_000)
    assert time.monotonic() - start < 2


def test_a_result_that_is_too_large_is_refused() -> None:
    assert "larger than" in refused("{{ big ~ big }}", big="x" * 600_000)
    assert "larger than" in refused("a {{ big }} {{ big }}", big="x" * 600_000)
    assert "larger than" in refused("{{ big + big }}", big=[1] * 600_000)


def test_a_list_in_the_middle_of_a_text_is_refused_with_the_way_out() -> None:
    assert "join(', ')" in refused("Call {{ hosts }} now")


def test_numbers_that_json_cannot_say_are_refused() -> None:
    assert "not finite" in refused("{{ 'inf' | float }}")


@pytest.mark.parametrize("text", ["{{ }}", "{{ 1 +", "{{ hosts | }}", "{{ 1 2 }}", "{{ 'open }}", "{{ a b }} c"])
def test_what_does_not_compile_is_an_error_with_the_text(text: str) -> None:
    assert text in refused(text)
    with pytest.raises(ConfigurationError):
        SandboxExpressions().names(text)


def test_names_and_attributes_are_known_without_evaluating() -> None:
    found = SandboxExpressions().names("{{ hosts if incident.severity == 'critical' else other }}")
    assert found.names == {"hosts", "incident", "other"}
    assert found.attributes == {("incident", "severity")}
    assert found.lone
    assert not SandboxExpressions().names("a {{ b }}").lone
    assert not SandboxExpressions().names("plain").names


def test_a_scope_is_never_changed() -> None:
    scope = {"hosts": ["a"]}
    result = SandboxExpressions().evaluate("{{ hosts }}", scope)
    result.append("b")
    assert scope == {"hosts": ["a"]}
