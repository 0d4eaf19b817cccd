"""The forms in which the value of a secret can turn up in text.

What is left alone, lest ordinary lines become unreadable: values of fewer than 6 bytes, numbers of fewer than 8 digits,
and the words in COMMON. A value of fewer than 12 letters and digits counts only as a whole word, so a weak password
`data` or `a1b2c3` cannot eat into other words or hashes; longer ones, and those with other characters, count anywhere.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple
from urllib.parse import quote, quote_plus

LEAST = 6
"""Bytes: anything shorter is in half of all lines, and is no secret either."""
LEAST_NUMBER = 8
LEAST_LINE = 8
"""Of a line of a longer value, such as a key file."""
WORD = 12
PIECE = 4096
"""Longer values are looked for in pieces of so many bytes."""
MOST_LINES = 512

COMMON = frozenset(
    "access account action address administrator allowed approle approval attack backup bearer certificate client "
    "cluster command completed configuration connection containment control critical database default delete denied "
    "detection disabled domain enabled example expired failed header incident integrity invalid inventory irflow "
    "keyring localhost machine message method missing monitor mysql network nobody notify number object openbao "
    "operator password phase playbook policy postgres postgresql prefect private process production public python "
    "recovery redis refused release repository request responder restic rotate runbook running secret secrets server "
    "service session severity source staging status string success supervisor system target testing timeout token "
    "transit update username values vault verified version warning worker".split()
)
"""Words of irflow's own lines and names of accounts: as a password each is known to everybody, and hides nothing."""


class Place(Enum):
    """Where a form counts: anywhere, as a whole word, or inside base64, of which then the whole run goes."""

    ANYWHERE = 0
    WORD = 1
    BASE64 = 2


class Form(NamedTuple):
    """One rendering of a value, at least LEAST characters."""

    text: str
    place: Place


def renderings(value: bytes) -> frozenset[Form]:
    """All forms of a value; none for what is left alone."""
    value = value.strip()
    if _ordinary(value):
        return frozenset()
    pieces = [value[start : start + PIECE] for start in range(0, len(value), PIECE)]
    lines = [line.strip() for line in value.splitlines()[:MOST_LINES]] if b"\n" in value or b"\r" in value else []
    found = {Form(text, Place.BASE64) for piece in pieces for text in _base64(piece)}
    # The first and last line of a key file are the same in all of them.
    for part in (*pieces, *(one for one in lines if len(one) >= LEAST_LINE and not one.startswith(b"-----"))):
        if not _ordinary(part):
            found |= {Form(text, _place(text)) for text in _texts(part)}
    return frozenset(one for one in found if len(one.text) >= LEAST)


def _ordinary(value: bytes) -> bool:
    return (
        len(value) < LEAST
        or (value.isdigit() and len(value) < LEAST_NUMBER)
        or value.decode("utf-8", "replace").lower() in COMMON
    )


def _place(text: str) -> Place:
    return Place.WORD if len(text) < WORD and text.isalnum() else Place.ANYWHERE


def _texts(value: bytes) -> Iterator[str]:
    """As it is, in hexadecimal, and escaped as JSON, Python, HTML and URLs do, also once within another."""
    text = value.decode("utf-8", "surrogateescape")
    yield text
    yield value.hex()
    yield repr(value)[2:-1]
    yield from (html.escape(text), html.escape(text, quote=False))
    yield from (quote(value), quote(value, safe=""), quote_plus(value))
    escaped = {one for again in _escaped(text) for one in (again, *_escaped(again))} if _escapes(text) else ()
    yield from escaped


def _escapes(text: str) -> bool:
    return not (text.isascii() and text.isprintable()) or any(one in text for one in "\\\"'")


def _escaped(text: str) -> tuple[str, ...]:
    # In a text that has both kinds of quotes, Python escapes the single ones; the two added here go again.
    both = repr(text + "\"'")[1:-1].removesuffix("\"\\'")
    return (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], both)


def _base64(value: bytes) -> Iterator[str]:
    """What the value gives wherever it begins in a longer text, as in `user:password`: the characters all its own."""
    for before in range(3):
        first, last = -(-8 * before // 6), 8 * (before + len(value)) // 6
        whole = base64.b64encode(bytes(before) + value).decode()
        core = whole[first:last]
        yield core
        yield core.replace("+", "-").replace("/", "_")
