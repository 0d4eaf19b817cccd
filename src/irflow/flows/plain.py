"""Text for Prefect's screens: state messages, run names, artifacts. Whatever a host or an alert said stays text."""

from __future__ import annotations

from irflow.adapters.templates.markdown import plain as _markdown
from irflow.adapters.templates.markdown import visible
from irflow.core.revealed import redact

MOST_CHARACTERS = 300


def plain(text: object, most: int = MOST_CHARACTERS) -> str:
    """One line of at most `most` characters, hidden ones spelled out, without secrets."""
    line = " ".join(visible(redact(str(text))[: most * 4]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def cell(text: object, most: int = MOST_CHARACTERS) -> str:
    """The same for a table: no markup, and addresses are defanged, so that none becomes a link to click."""
    return plain(text, most).replace("://", "[:]//").replace("](", "] (")


def markdown(text: object, most: int = MOST_CHARACTERS) -> str:
    """The same as Markdown that shows as that text."""
    return _markdown(plain(text, most))
