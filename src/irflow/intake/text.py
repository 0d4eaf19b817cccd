"""Text of alerts made safe to show: no control characters, nothing invisible, no endless lines. Still data only."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # Persian, Hindi and others are not readable without them


def clean(text: str, limit: int, *, lines: bool = False) -> str:
    """The text with every control and direction character written out as `<U+202E>`, at most `limit` characters.

    A terminal, a mail header or a page then shows what was sent instead of obeying it; the raw bytes are kept
    elsewhere. lines: keep line breaks and tabs, which become spaces otherwise. A cut text ends with `…`.
    """
    text = text[: limit + 1]  # what follows can only be cut
    if not (text.isascii() and text.isprintable()):
        text = "".join(_visible(one, lines) for one in text)
    text = text.strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _visible(one: str, lines: bool) -> str:
    if one in "\n\t":
        return one if lines else " "
    if one == "\r":
        return "" if lines else " "
    if unicodedata.category(one) in _INVISIBLE and one not in _JOINERS:
        return f"<U+{ord(one):04X}>"
    return one


def clean_all(texts: Iterable[str], limit: int) -> tuple[str, ...]:
    """Each text on one line, without repeats and empty ones, in order."""
    return tuple(dict.fromkeys(one for one in (clean(text, limit) for text in texts) if one))
