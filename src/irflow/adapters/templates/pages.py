"""Jinja2 for irflow's own page: the shipped web/*.html.j2, where every value is text and never markup."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, Undefined
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from irflow.adapters.templates import markdown
from irflow.core.errors import ConfigurationError
from irflow.core.model import Json, to_text

SUFFIX = ".html.j2"
_LONGEST_WORDS = 200


class TemplatePages:
    """Fills the templates of one folder, which are irflow's own and never an installation's.

    Every value is escaped, and what a browser would obey without showing it (bidirectional overrides, controls) is
    spelled out; no filter switches that off, and a name that the scope does not have is a mistake.
    """

    def __init__(self, folder: Path) -> None:
        environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, finalize=_shown,
            trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        for name in ("range", "lipsum", "cycler", "joiner", "namespace"):
            environment.globals.pop(name, None)
        for name in ("safe", "forceescape", "pprint", "xmlattr", "urlize", "tojson", "striptags", "filesizeformat"):
            environment.filters.pop(name, None)
        environment.filters.update(
            seconds=_seconds, left=_left, moment=_moment, words=_words, short_digest=_short_digest, iso=to_text
        )
        self._environment = environment

    def render(self, template: str, scope: Mapping[str, Json]) -> str:
        """Fill a template. Raises ConfigurationError naming it, for a mistake in it."""
        try:
            return self._environment.get_template(template + SUFFIX).render(dict(scope))
        except (TemplateError, TypeError, ValueError) as error:
            raise ConfigurationError(f"the page {template} cannot be filled: {error}") from error


def _shown(value: Any) -> Any:
    """What every `{{ ... }}` goes through, before it is escaped."""
    if isinstance(value, Markup | Undefined | int | float):
        return value
    if value is None or isinstance(value, list | tuple | dict | set):
        raise ValueError(f"{'nothing' if value is None else 'a list or mapping'} in the text of a page")
    return markdown.visible(str(value))


def _seconds(value: float) -> str:
    return str(markdown.seconds(value))


def _left(value: float) -> str:
    """Seconds until a deadline, as the script on the page writes them too: `12 min 05 s left`, `3 min 10 s late`."""
    whole = int(abs(value))
    days, hours, minutes, seconds = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        text = f"{days} d {hours:02} h"
    elif hours:
        text = f"{hours} h {minutes:02} min"
    else:
        text = f"{minutes} min {seconds:02} s"
    return f"{text} {'left' if value >= 0 else 'late'}"


def _moment(value: datetime | str) -> str:
    return str(markdown.moment(value))


def _words(value: str) -> str:
    """A technical name as words: `lessons_learned` -> `lessons learned`."""
    return str(value)[:_LONGEST_WORDS].replace("_", " ")


def _short_digest(value: str) -> str:
    """The first characters of a digest, enough to compare by eye."""
    return str(value)[:12]
