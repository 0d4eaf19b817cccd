"""A secret value that is given on standard input."""

from __future__ import annotations

import sys

from irflow.core.errors import UsageError


def given_value(command: str) -> str:
    """Standard input without its last line break. command: named where nothing is given.

    Raises UsageError for a terminal, where it would be shown, for nothing, and for what is not UTF-8.
    """
    if sys.stdin.isatty():
        raise UsageError("the value comes on standard input", hint=f"{command} < FILE")
    value = sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")
    if not value:
        raise UsageError("the value is empty", hint="Nothing was written")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UsageError("the value is not UTF-8", hint="Nothing was written; put its base64 there") from None
