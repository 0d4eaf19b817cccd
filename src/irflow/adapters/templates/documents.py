"""Jinja2 for documents: the shipped and local *.md.j2, filled with values that stay plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, TemplateNotFound, TemplateSyntaxError
from jinja2.exceptions import SecurityError, TemplateError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from irflow.adapters.templates import markdown
from irflow.core.errors import ConfigurationError, Location
from irflow.core.model import Json

SUFFIX = ".md.j2"
MOST_CHARACTERS = 8 << 20
"""A journal of 10,000 events gives a document of about 2 MB."""


class TemplateDocuments:
    """core.ports.Documents: renders templates from folders; a template in an earlier folder hides a later one's.

    Every value is escaped for Markdown unless a filter of this module has turned it into a table, a code span or a
    quotation, so text from an alert cannot become a link, HTML, a heading, a table cell or a fence. Templates may not
    switch that off: there is no `safe` filter.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
            undefined=StrictUndefined,
            finalize=markdown.finalize,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        for name in ("range", "lipsum", "cycler", "joiner"):
            environment.globals.pop(name, None)
        for name in ("safe", "forceescape", "escape", "e", "pprint", "xmlattr", "urlize", "tojson", "center", "indent"):
            environment.filters.pop(name, None)
        environment.filters.update(markdown.FILTERS)
        self._environment = environment

    def names(self) -> tuple[str, ...]:
        """Templates that exist, sorted."""
        found = {path.name.removesuffix(SUFFIX) for folder in self._folders for path in folder.glob(f"*{SUFFIX}")}
        return tuple(sorted(name for name in found if not name.startswith("_")))

    def render(self, template: str, scope: Mapping[str, Json]) -> str:
        """Fill a template. Raises ConfigurationError at its file:line for a mistake or an unknown name."""
        if template not in self.names():
            raise ConfigurationError(f"no template {template!r}", hint=f"There are {', '.join(self.names())}")
        try:
            text = self._environment.get_template(template + SUFFIX).render(dict(scope))
        except TemplateSyntaxError as error:
            where = Location(error.filename or error.name or template, error.lineno)
            raise ConfigurationError(f"not a template: {error.message}", where=where) from None
        except TemplateNotFound as error:
            raise ConfigurationError(f"{template} includes {error.name!r}, which does not exist") from None
        except (UndefinedError, SecurityError, TemplateError, TypeError, ValueError) as error:
            self._failed(template, error)
        if len(text) > MOST_CHARACTERS:
            raise ConfigurationError(f"the document {template} is larger than {MOST_CHARACTERS >> 20} M characters")
        return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n"

    def _failed(self, template: str, error: Exception) -> NoReturn:
        """Name the line of the template in which rendering failed."""
        line, name, trace = 0, template + SUFFIX, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.endswith(SUFFIX):
                line, name = trace.tb_lineno, trace.tb_frame.f_code.co_filename
            trace = trace.tb_next
        raise ConfigurationError(f"cannot be filled: {error}", where=Location(name, line)) from None
