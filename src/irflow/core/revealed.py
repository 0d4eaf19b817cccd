"""The values of secrets that this process has held, and how they are taken out of any text that leaves it."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from threading import RLock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from irflow.core.renderings import LEAST, Form, Place, renderings

MASK = "***"
MOST_VALUES = 4096
"""Values that are remembered; the one that was used longest ago goes first."""
MOST_DEPTH = 40
LEAST_PART = 16
"""Characters of a part of an address that is taken for a secret by itself, as in https://hooks.example/T0/KEY."""

_RUN = re.compile(r"[A-Za-z0-9+/=_-]*")
_RUN_BEFORE = re.compile(r"[A-Za-z0-9+/=_-]*\Z")
_BOUNDARY = re.compile(r"(?:\A|[^0-9A-Za-z]|\\[abfnrtv0]|\\x[0-9a-f]{2}|\\u[0-9a-fA-F]{4}|%[0-9A-Fa-f]{2})\Z")

_HINTED: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    (("PRIVATE KEY-----",), re.compile(
        r"-----BEGIN (?P<kind>[A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END (?P=kind)PRIVATE KEY-----|\Z)", re.DOTALL
    ), MASK),
    (("hvs.", "hvb.", "hvr."), re.compile(r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"), MASK),
    (("s.", "b.", "r."), re.compile(
        r"(?<![A-Za-z0-9_.-])[sbr]\.(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{24,}(?:\.[A-Za-z0-9]+)?"
    ), MASK),
    (("uthorization", "UTHORIZATION", "ault-", "AULT-"), re.compile(
        r"(?i)((?:proxy-)?authorization|x-vault-token)([\"']?\s*[:=]\s*(?:b?[\"'])?|[\"']\s*,\s*b?[\"'])"
        r"(?!\s)((?:(?:basic|bearer|digest|token|negotiate)\s+)?)[^\s\"',;()\[\]{}]+"
    ), rf"\1\2\3{MASK}"),
    (("://",), re.compile(r"(://[^\s/@:\"']*:)[^\s/\"']+(?=@)"), rf"\1{MASK}"),
)  # fmt: skip
"""What is a secret by its looks: (a text it cannot be without, pattern, what stands there instead)."""


class _Entry(NamedTuple):
    """A form, and how far into it the key stands under which it is found."""

    form: Form
    offset: int


class Register:
    """Finds the forms of its values by any LEAST characters of them.

    Writers hold the lock. Readers need none: the index changes by whole entries only. The lock is held across a fork,
    so a child never inherits it taken, or the register half written.
    """

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._values: OrderedDict[bytes, frozenset[Form]] = OrderedDict()
        self._uses: dict[Form, tuple[int, int]] = {}
        """form -> (how many values have it, its offset)."""
        self._index: dict[str, tuple[_Entry, ...]] = {}
        self._lock = RLock()
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: bytes) -> None:
        """Remember a value, or that it was used again."""
        with self._lock:
            if value in self._values:
                self._values.move_to_end(value)
                return
            forms = renderings(value)
            if not forms:
                return
            self._values[value] = forms
            for form in forms:
                self._place(form)
            while len(self._values) > self._most:
                _, gone = self._values.popitem(last=False)
                for form in gone:
                    self._remove(form)

    def clear(self) -> None:
        """Forget all of them: for tests, whose secrets are ordinary words to the next one."""
        with self._lock:
            self._values.clear()
            self._uses.clear()
            self._index.clear()

    def _place(self, form: Form) -> None:
        count, offset = self._uses.get(form, (0, 0))
        if not count:
            # Key files and tokens begin alike, so the least common of three keys is taken.
            last = len(form.text) - LEAST
            offset = min((0, last // 2, last), key=lambda one: len(self._at(form, one)))
            self._index[form.text[offset : offset + LEAST]] = (*self._at(form, offset), _Entry(form, offset))
        self._uses[form] = (count + 1, offset)

    def _remove(self, form: Form) -> None:
        count, offset = self._uses.pop(form)
        if count > 1:
            self._uses[form] = (count - 1, offset)
            return
        left = tuple(one for one in self._at(form, offset) if one.form != form)
        key = form.text[offset : offset + LEAST]
        if left:
            self._index[key] = left
        else:
            del self._index[key]

    def _at(self, form: Form, offset: int) -> tuple[_Entry, ...]:
        return self._index.get(form.text[offset : offset + LEAST], ())

    def without(self, text: str) -> str:
        """The text with MASK wherever it has a value of this register."""
        index = self._index
        hits = [at for at in range(len(text) - LEAST + 1) if text[at : at + LEAST] in index] if index else []
        spans = sorted(
            span
            for at in hits
            for entry in index.get(text[at : at + LEAST], ())
            if (span := _span(text, at - entry.offset, entry.form))
        )
        if not spans:
            return text
        parts, end = [], 0
        for first, last in spans:
            if first >= end:
                parts += [text[end:first], MASK]
            end = max(end, last)
        return "".join((*parts, text[end:]))


def _span(text: str, start: int, form: Form) -> tuple[int, int] | None:
    """What has to go if the form stands there."""
    if start < 0 or not text.startswith(form.text, start):
        return None
    end = start + len(form.text)
    if form.place is Place.BASE64:
        before = _RUN_BEFORE.search(text[max(0, start - 4096) : start])
        after = _RUN.match(text, end)
        return start - len(before[0]) if before else start, after.end() if after else end
    if form.place is Place.WORD and not _apart(text, start, end):
        return None
    return start, end


def _apart(text: str, start: int, end: int) -> bool:
    """Whether no word goes on there; the end of an escape such as \\n is no part of a word."""
    return not text[end : end + 1].isalnum() and _BOUNDARY.search(text[max(0, start - 6) : start]) is not None


_register = Register()


def remember(value: bytes | str) -> None:
    """Have a value taken out of all that this process says from now on; of an address, its secret parts too."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    _register.add(data)
    if b"://" in data and len(data) < 4096:
        for part in _parts(data.decode("utf-8", "replace").strip()):
            _register.add(part.encode())


def _parts(address: str) -> list[str]:
    try:
        found = urlsplit(address)
        password = found.password
    except ValueError:
        return []
    long = re.split(r"[/?&=;#]", f"{found.path}?{found.query}")
    return [*([password] if password else []), *(one for one in long if len(one) >= LEAST_PART)]


def redact(text: str) -> str:
    """The text without any remembered value in any of its forms, and without what is a secret by its looks.

    Microseconds for a line, whatever is remembered. Values come out whole only: cut a text after this, not before.
    """
    text = _register.without(text)
    for hints, pattern, instead in _HINTED:
        if any(hint in text for hint in hints):
            text = pattern.sub(instead, text)
    return text


def redact_all(value: Any, depth: int = 0) -> Any:
    """The same for all texts in lists and mappings, keys too; anything else in them stays as it is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    if depth > MOST_DEPTH:
        return MASK
    if isinstance(value, dict):
        return {redact_all(key, depth + 1): redact_all(one, depth + 1) for key, one in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(redact_all(one, depth + 1) for one in value)
    return value
