"""Documents: everything the journal knows, and hostile text that stays text for every Markdown reader."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from irflow.adapters.templates import TemplateDocuments
from irflow.adapters.templates.markdown import code, listed, moment, plain, quote, seconds
from irflow.core.errors import ConfigurationError
from irflow.core.journal import Kind
from irflow.core.model import Json
from irflow.core.record import scope
from irflow.core.sentences import sentence
from irflow.core.status import fold
from irflow.shipped import shipped
from tests.adapters.story import HOSTILE, START, story

GOLDEN = Path(__file__).parent.parent / "golden"
SHIPPED = ("incident-report", "post-incident-review", "stakeholder-update")

HOSTILE_TEXTS = [
    HOSTILE,
    "[click](http://evil.example)",
    "![x](http://evil.example/p.png)",
    "<img src=x onerror=alert(1)>",
    "<http://evil.example>",
    "http://evil.example/a?b=c",
    "HTTPS://evil.example",
    "www.evil.example",
    "mailto:a@evil.example",
    "victim@evil.example",
    "javascript:alert(1)",
    "# heading",
    "a\n# heading\n\nparagraph",
    "setext\n=====\n",
    "setext\n---\n",
    "- item",
    "1. item",
    "1) item",
    "> quote",
    "```\ncode\n```",
    "~~~\ncode",
    "    indented code",
    "| a | b |\n|---|---|\n| c | d |",
    "a | b | c",
    "a \\| b",
    "*bold* **bold** _em_ __em__ ~~gone~~ `code`",
    "&lt;script&gt; &#60;",
    "[ref]: http://evil.example\n[ref]",
    "[^1]: note",
    "{{ 7*7 }} {% for x in y %} {# c #} ${7*7} <%= 7*7 %>",
    "back\\slash \\",
    "ends with `",
    "``",
    "a\r\n# b\u2028# c\x85# d",
    "\u202eevil\u200b \x00\x1b[31m",
    "---",
    "***",
    "<!-- comment",
    "<details><summary>x",
    "$\\href{javascript:alert(1)}{x}$",
]


def render(
    until_s: float = 1e9, *, name: str = "incident-report", at: timedelta = timedelta(hours=2, minutes=31)
) -> str:
    events = story(until_s)
    return TemplateDocuments([shipped("templates")]).render(name, scope(fold(events), events, START + at))


def markup(text: str) -> list[str]:
    """The kinds of Markdown elements in a text, as a reader with tables and strikethrough sees them."""
    found: list[str] = []

    def walk(tokens: Json) -> None:
        for token in tokens:
            found.append(token.type)
            walk(token.children or ())

    walk(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text))
    return found


PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_text_has_no_markup_left(text: str) -> None:
    assert set(markup(plain(text))) <= PLAIN, plain(text)
    assert "\n" not in plain(text)


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_hostile_text_stays_in_its_table_cell_quotation_or_code_span(text: str) -> None:
    for cell in (plain(text), code(text)):
        tokens = markup(f"| a | b |\n|---|---|\n| {cell} | x |\n")
        assert tokens.count("tr_open") == 2 and tokens.count("td_open") == 2
        assert not {"link_open", "html_inline", "image", "em_open", "strong_open", "s_open"} & set(tokens)
    tokens = markup(f"{quote(text)}\n\nafter")
    assert tokens.count("blockquote_open") == 1 and tokens.count("blockquote_close") == 1
    assert set(tokens) <= PLAIN | {"blockquote_open", "blockquote_close", "hardbreak"}


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_no_address_is_left_that_a_reader_would_make_a_link(text: str) -> None:
    shown = plain(text)
    for wrong in ("://", "www.", "mailto:", "javascript:", "@evil"):
        assert wrong not in shown.lower()


def test_hidden_characters_are_spelled_out() -> None:
    assert plain("a\u202eb\u200bc\x1bd\ufeff") == "a\\<U+202E\\>b\\<U+200B\\>c\\<U+001B\\>d\\<U+FEFF\\>"


def test_ordinary_words_stay_readable() -> None:
    for text in (
        "web-1.example.com",
        "system_compromise",
        "10.0.0.0/28",
        "42.5 %",
        "it's done (twice), ok?",
        "Zürich, 東京",
    ):
        assert plain(text) == text


@pytest.mark.parametrize("template", SHIPPED)
def test_a_hostile_alert_adds_no_markup_to_any_document(template: str) -> None:
    """The same incident with a harmless title gives exactly the same elements."""
    events = story()
    record = scope(fold(events), events, START + timedelta(hours=3))
    harmless = _replaced(record, HOSTILE, "a harmless title")
    documents = TemplateDocuments([shipped("templates")])
    hostile, calm = documents.render(template, record), documents.render(template, harmless)
    wanted = [kind for kind in markup(calm) if kind not in ("text", "text_special", "softbreak", "hardbreak")]
    found = [kind for kind in markup(hostile) if kind not in ("text", "text_special", "softbreak", "hardbreak")]
    assert found == wanted
    assert not {"html_block", "html_inline", "link_open", "image"} & set(found)
    for line in hostile.splitlines():
        if "evil" in line:
            assert "{{7\\*7}}" in line


def _replaced(value: Json, old: str, new: str) -> Json:
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _replaced(one, old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, old, new) for one in value]
    return value


@pytest.mark.parametrize("template", SHIPPED)
@pytest.mark.parametrize(
    ("when", "until_s", "at"), [("open", 60, timedelta(minutes=1)), ("end", 1e9, timedelta(hours=3))]
)
def test_the_document_is_the_one_on_record(template: str, when: str, until_s: float, at: timedelta) -> None:
    """Golden files; GOLDEN=write writes them again, for a person to read the difference."""
    text = render(until_s, name=template, at=at)
    path = GOLDEN / f"{template}-{when}.md"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_the_report_holds_every_event_of_the_journal_and_its_head() -> None:
    events, text = story(), render()
    for event in events:
        assert f"| {event.seq} | " in text
        assert plain(sentence(event)) in text
    assert events[-1].hash in text


def test_every_kind_of_event_can_be_said_in_words() -> None:
    from irflow.core import sentences

    assert set(Kind) == set(sentences._SAY)


def test_the_update_says_how_the_incident_stands() -> None:
    assert "Nothing has been contained yet" in render(0.02, name="stakeholder-update", at=timedelta(seconds=1))
    assert "are being cut off" in render(60, name="stakeholder-update", at=timedelta(minutes=2))
    assert "The incident is contained" in render(310, name="stakeholder-update", at=timedelta(minutes=6))
    assert "Service is restored" in render(name="stakeholder-update")


def test_the_review_reads_its_lessons_off_the_journal() -> None:
    text = render(name="post-incident-review")
    assert "recovery waited 2.4 h for people" in text
    assert "the first alert came 40 min after the trouble began" in text
    assert "every effect was proved from outside: 4 checks passed, none failed" in text
    assert "-oProxyCommand=x, which the inventory does not have" in text


def test_an_incident_of_which_nothing_is_known_yet_can_be_written_about() -> None:
    for name in SHIPPED:
        assert "IR-2026-0001" in render(0.01, name=name, at=timedelta(seconds=1))


# ---------------------------------------------------------------- templates of one's own


def local(tmp_path: Path, text: str, name: str = "mine") -> TemplateDocuments:
    (tmp_path / f"{name}.md.j2").write_text(text)
    return TemplateDocuments([tmp_path, shipped("templates")])


def test_a_local_template_hides_the_shipped_one_and_adds_to_them(tmp_path: Path) -> None:
    documents = local(tmp_path, "short {{ incident.number }}", "incident-report")
    assert documents.render("incident-report", {"incident": {"number": "IR-1"}}) == "short IR-1\n"
    assert local(tmp_path, "x").names() == ("incident-report", "mine", "post-incident-review", "stakeholder-update")


def test_an_unknown_name_is_an_error_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mine\.md\.j2:2: cannot be filled: 'nope' is undefined"):
        local(tmp_path, "a\n{{ nope }}\n").render("mine", {})


def test_a_mistake_in_a_template_is_an_error_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mine\.md\.j2:3: not a template"):
        local(tmp_path, "a\nb\n{% if %}\n").render("mine", {})


def test_an_unknown_template_names_those_that_exist_and_no_path_leads_out(tmp_path: Path) -> None:
    documents = local(tmp_path, "x")
    (tmp_path.parent / "secret.md.j2").write_text("secret")
    for name in ("nope", "../secret", "/etc/passwd", "_header", "mine.md.j2"):
        with pytest.raises(ConfigurationError, match="There are incident-report, mine"):
            documents.render(name, {})
    with pytest.raises(ConfigurationError, match="does not exist"):
        local(tmp_path, "{% include '../secret.md.j2' %}").render("mine", {})


@pytest.mark.parametrize(
    "text",
    [
        "{{ x | safe }}", "{{ x.__class__ }}{{ x.__class__.__mro__ }}", "{{ range(9) }}", "{{ lipsum() }}",
        "{{ x | forceescape }}", "{{ x | urlize }}", "{{ x | center(1000000000) }}", "{{ [x] }}", "{{ {'a': x} }}",
        "{{ ().__class__.__bases__[0].__subclasses__() }}",
    ],
)  # fmt: skip
def test_a_template_cannot_switch_escaping_off_or_reach_python(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        local(tmp_path, text).render("mine", {"x": "<b>"})


@pytest.mark.parametrize(
    "text",
    [
        "{{ x | upper }}", "{{ x ~ '' }}", "{{ x | trim }}", "{{ (x | code) ~ x }}", "{{ [x] | join }}",
        "{% set y %}{{ x }}{% endset %}{{ y }}", "{% filter upper %}{{ x }}{% endfilter %}",
    ],
)  # fmt: skip
def test_no_detour_through_filters_brings_markup_back(tmp_path: Path, text: str) -> None:
    found = local(tmp_path, text).render("mine", {"x": "<b> [l](http://evil.example)"})
    assert not {"html_inline", "html_block", "link_open"} & set(markup(found)), found


def test_values_are_never_rendered_again(tmp_path: Path) -> None:
    text = "{{ x }} {{ x | code }}\n\n{{ x | quote }}"
    assert "49" not in local(tmp_path, text).render("mine", {"x": "{{ 7*7 }}{% include 'incident-report.md.j2' %}"})


def test_lengths_and_moments_are_written_as_people_say_them() -> None:
    assert [seconds(one) for one in (None, 0.194, 59.96, 252, 97200, -3)] == [
        "-", "0.19 s", "1 min", "4 min 12 s", "1 d 3 h", "-3.00 s",
    ]  # fmt: skip
    assert moment("2026-03-02T10:15:00+01:00") == "2026-03-02 09:15:00 UTC"
    assert moment("<b>") == "\\<b\\>"
    assert listed(["a", "`b"]) == "`a`, `` `b ``"
    assert listed([]) == "-"
