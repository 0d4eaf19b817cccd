"""JSON from strangers: what two parsers could read differently, or what could exhaust one, is refused."""

from __future__ import annotations

import json
import math
from typing import NoReturn

from irflow.core.model import Json
from irflow.intake.refusal import NotUnderstood

DEPTH = 32
"""Real alerts are nested five or six deep."""
DIGITS = 30


def read_json(body: bytes) -> Json:
    """Parse a body. Raises NotUnderstood for bytes that are not UTF-8, JSON that is not RFC 8259, duplicate keys,
    NaN, numbers out of range, and nesting deeper than 32."""
    try:
        value: Json = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer,
            parse_float=_finite,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise NotUnderstood(f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotUnderstood(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotUnderstood(f"the JSON is nested deeper than {DEPTH}") from None
    _check_depth(value)
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotUnderstood("an object of the JSON has a key twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise NotUnderstood(f"the JSON holds {text}")


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise NotUnderstood(f"the JSON holds a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise NotUnderstood("the JSON holds a number out of range")
    return value


def _check_depth(value: Json) -> None:
    """Level by level, so that deep nesting costs no stack here either."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise NotUnderstood(f"the JSON is nested deeper than {DEPTH}")
