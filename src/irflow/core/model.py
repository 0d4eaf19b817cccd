"""The base of every noun that comes from YAML, HTTP or the journal: frozen, strict about unknown fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

# What JSON can say. Any: pydantic and mypy both handle recursive aliases poorly in frozen models.
Json: TypeAlias = Any

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Noun(BaseModel):
    """A frozen model without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def parse_duration(value: object) -> timedelta:
    """Read `90s`, `15m`, `8h`, `2d`, `1w` or a number of seconds.

    Raises ValueError on anything else, and on zero or less.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and value[-1:] in _UNITS and value[:-1].isascii() and value[:-1].isdigit():
        seconds = float(int(value[:-1]) * _UNITS[value[-1]])
    else:
        raise ValueError("not a duration: write 90s, 15m, 8h, 2d or 1w")
    if not 0 < seconds <= 10 * 365 * 86400:
        raise ValueError("a duration must be longer than zero and shorter than ten years")
    return timedelta(seconds=seconds)


Duration: TypeAlias = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(lambda value: value.total_seconds(), return_type=float),
]


def to_text(moment: datetime) -> str:
    """A moment as the journal writes it: UTC, microseconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime:
    """The moment behind a journal time. Raises ValueError on another form."""
    return datetime.fromisoformat(text)
