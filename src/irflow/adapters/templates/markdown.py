"""Values as Markdown: text that cannot become markup, and the few forms a template may give it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jinja2 import Undefined

from irflow.core.model import Json


class Markdown(str):
    """Text that is already Markdown; only this module makes it."""

    __slots__ = ()


# Characters that start markup anywhere in a line (CommonMark 0.31, GFM 0.29, and `$` for those who render maths).
# An underscore between letters starts nothing.
_MARKUP = re.compile(r"([\\`*\[\]<>|#~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")
# At the start of a line: bullets, underlines of headings, front matter, numbered lists.
_LEADING = re.compile(r"^(?:([-+=])(?=[-+=]*(?:\s|$))|(\d{1,9})(?=[.)](?:\s|$)))")
# Bare addresses that GFM turns into links even where everything is escaped: defanged as responders write them.
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,30}):(?=//)")
_SCHEME = re.compile(r"(?i)\b(mailto|xmpp|javascript|data|vbscript):")
_WWW = re.compile(r"(?i)\bwww\.")
_MAIL = re.compile(r"(?<=[\w.+-])@(?=[\w-]+\.\w)")
# What a terminal or an editor would obey or hide: controls, bidirectional overrides, invisible characters.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINES = re.compile("[\r\n\t\x85\u2028\u2029 ]+")


def visible(text: str) -> str:
    """The text with hidden characters spelled out as `<U+202E>`."""
    return _HIDDEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def plain(value: Json) -> str:
    """A value as one line of text without any markup in it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = _LINES.sub(" ", visible(str(value))).strip()
    text = _URL.sub(r"\1[:]", text)
    text = _SCHEME.sub(r"\1[:]", text)
    text = _WWW.sub("www[.]", text)
    text = _MAIL.sub("[@]", text)
    text = _MARKUP.sub(r"\\\1", text)
    return _LEADING.sub(lambda found: f"\\{found[1]}" if found[1] else f"{found[2]}\\", text)


def finalize(value: Any) -> Any:
    """What every `{{ ... }}` of a template goes through."""
    if isinstance(value, Markdown | Undefined):
        return value
    if isinstance(value, list | tuple | dict | set):
        raise ValueError("a list or mapping in the text: join it, or go through it")
    return Markdown(plain(value))


def code(value: Json) -> Markdown:
    """A value as a code span that also holds inside a table."""
    if value is None or value == "":
        return Markdown("-")
    text = _LINES.sub(" ", visible(str(value))).strip()
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    if "|" in text:  # GFM splits table cells before it looks for code spans, and nothing escapes a bar elsewhere
        return Markdown(plain(value))
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def quote(value: Json) -> Markdown:
    """Text of several lines as a block quotation, each line escaped."""
    lines = str(value or "").splitlines() or [""]
    return Markdown("\n".join(f"> {plain(line)}  " if line.strip() else ">" for line in lines))


def listed(values: Iterable[Json]) -> Markdown:
    """Values as one line, each a code span, comma-separated."""
    return Markdown(", ".join(code(value) for value in values) or "-")


def seconds(value: float | None) -> Markdown:
    """A duration in seconds as people say it: `0.19 s`, `4 min 12 s`, `2 d 3 h`."""
    if value is None:
        return Markdown("-")
    if value < 0:
        return Markdown(f"-{seconds(-value)}")
    if value < 10:
        return Markdown(f"{value:.2f} s")
    if value < 59.95:
        return Markdown(f"{value:.1f} s")
    whole = round(value)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if whole >= size:
            parts.append(f"{whole // size} {unit}")
            whole %= size
    return Markdown(" ".join(parts[:2]))


def moment(value: Json) -> Markdown:
    """A moment of the journal as `2026-01-31 09:15:02 UTC`; text that is none is escaped."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return Markdown(plain(value))
    if found.tzinfo is None:
        return Markdown(plain(value))
    return Markdown(found.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))


def clock_time(value: Json) -> Markdown:
    """A moment to the millisecond, for timelines: `2026-01-31 09:15:02.123`."""
    try:
        found = datetime.fromisoformat(str(value)).astimezone(UTC)
    except ValueError:
        return Markdown(plain(value))
    return Markdown(found.strftime("%Y-%m-%d %H:%M:%S.") + f"{found.microsecond // 1000:03d}")


def window(value: timedelta | float) -> Markdown:
    """A length of time that somebody set, `15 min` rather than `15 min 0 s`."""
    return seconds(value.total_seconds() if isinstance(value, timedelta) else float(value))


def counted(values: Sequence[Json], one: str) -> Markdown:
    """How many there are, `1 alert` or `3 alerts`."""
    return Markdown(f"{len(values)} {one}{'' if len(values) == 1 else 's'}")


def words(value: Json) -> Markdown:
    """A technical name as words: `lessons_learned` -> `lessons learned`."""
    return Markdown(plain(str(value).replace("_", " ").replace(".", " ")))


FILTERS: Mapping[str, Callable[..., Markdown]] = {
    "code": code,
    "counted": counted,
    "quote": quote,
    "listed": listed,
    "seconds": seconds,
    "moment": moment,
    "clock_time": clock_time,
    "window": window,
    "words": words,
}
