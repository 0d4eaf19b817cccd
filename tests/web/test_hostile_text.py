"""Text from alerts, targets and people is data on every page: it becomes no markup, no link and no script."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from irflow.core.questions import Ask
from tests.intake.site import Site
from tests.web.forms import fields
from tests.web.scene import scene
from tests.web.test_pages import every_page

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": "\" onmouseover=alert(1) x='",
    "closing": "</textarea></pre></title></script><img src=x onerror=alert(1)>",
    "template": "{{ 7*7 }}{% raw %}{{ config }}",
    "entity": "&lt;script&gt;&#60;b&#62;",
    "link": "javascript:alert(1) //evil.example",
}
HIDDEN = "web\u202e1-gnp\u200b\u2066x"
_TAGS = {
    "html", "head", "meta", "title", "link", "script", "noscript", "body", "a", "header", "nav", "form", "input",
    "span", "button", "main", "p", "strong", "code", "h1", "h2", "h3", "section", "article", "progress", "ul", "ol",
    "li", "dl",
    "dt", "dd", "div", "details", "summary", "footer", "br", "pre", "label", "fieldset", "legend", "textarea", "select",
    "option",
}  # fmt: skip


class _Seen(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_only_text_on_every_page(at: Site, name: str) -> None:
    text = HOSTILE[name]
    asked = scene(at.store, at.clock.now(), at.documents, text=text)
    visitor = at.visitor()
    for path in [*every_page(asked), "/login?next=" + quote(text, safe=""), f"/incidents/{quote(text, safe='')}"]:
        page = visitor.get(path).text
        seen = _Seen()
        seen.feed(page)
        assert seen.tags <= _TAGS, path
        assert seen.scripts == (0 if page == '{"detail":"Not Found"}' else 1), path
        assert not {one for one in seen.attributes if one.startswith("on") or one == "style"}, path
        assert all(one.startswith(("/", "#", "http://127.0.0.1:4200/runs/flow-run/")) for one in seen.links), path
        assert not any(one.startswith("//") for one in seen.links), path
        assert "49" not in re.findall(r">([^<]*)<", page), path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_that_was_typed_comes_back_as_text(at: Site, name: str) -> None:
    asked = scene(at.store, at.clock.now())
    visitor, url = at.visitor(), asked.form_url(Ask.MANUAL)
    form = fields(visitor.get(url).text, url)
    typed = {**form, "note": HOSTILE[name], "evidence": HOSTILE[name], "field.users": HOSTILE[name], "choice": "done"}
    reply = visitor.post(url, data=typed)
    assert reply.status_code == 422
    seen = _Seen()
    seen.feed(reply.text)
    assert seen.tags <= _TAGS
    assert seen.scripts == 1
    again = fields(reply.text, url)
    assert again["evidence"] == [HOSTILE[name]]
    assert again["note"] == [HOSTILE[name]]


def test_what_a_browser_would_obey_unseen_is_spelled_out(at: Site) -> None:
    asked = scene(at.store, at.clock.now(), at.documents, text=HIDDEN)
    visitor = at.visitor()
    for path in every_page(asked):
        page = visitor.get(path).text
        assert not set("\u202e\u200b\u2066") & set(page), path
    assert "&lt;U+202E&gt;" in visitor.get(asked.url).text
