"""Printing: tables for people, JSON for machines, errors that say what to do next."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from irflow.wiring import Configuration, Runtime

HOME: dict[str, Path | None] = {"path": None}
"""What --home said; read through configuration()."""

STYLES = {
    "done": "green",
    "noop": "green",
    "ended": "green",
    "completed": "green",
    "met": "green",
    "passed": "green",
    "failed": "bold red",
    "missed": "bold red",
    "refused": "bold red",
    "unknown": "bold red",
    "undo_failed": "bold red",
    "awaiting_approval": "bold yellow",
    "open": "yellow",
    "running": "yellow",
    "critical": "bold red",
    "high": "red",
}


def configuration() -> Configuration:
    """The installation's configuration. Raises ConfigurationError(s) with file:line."""
    from irflow.config import default_home
    from irflow.wiring import load

    return load(HOME["path"] or default_home())


def runtime(process: str = "cli") -> AbstractContextManager[Runtime]:
    """Everything, wired up, for a command that acts."""
    from irflow.wiring import open_runtime

    return open_runtime(configuration(), process=process)


def say(text: str = "") -> None:
    """One line for people, on standard output."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def progress(text: str) -> None:
    """One line about work in progress, on standard error, so that --json stays clean."""
    print(text, file=sys.stderr, flush=True)


def dump(value: Any) -> None:
    """JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table that is readable without colour too."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        drawn.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        drawn.add_row(*(Text(str(cell), style=STYLES.get(str(cell), "")) for cell in row))
    # A file or a pipe has no width to keep to.
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(drawn)


def fail(error: Exception) -> int:
    """Tell people what went wrong and return the exit code."""
    from irflow.core.errors import ConfigurationErrors, IrflowError

    if isinstance(error, ConfigurationErrors):
        for one in error.errors:
            print(f"error: {one}", file=sys.stderr)
        number = len(error.errors)
        print(f"{number} mistake{'s' if number > 1 else ''} to mend", file=sys.stderr)
        return error.exit_code
    if isinstance(error, IrflowError):
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show = getattr(error, "show", None)  # typer's own usage errors know how to print themselves
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, typer.Abort):
        print("aborted", file=sys.stderr)
        return 130
    traceback.print_exception(error)
    print("error: this is a defect of irflow; the lines above say where", file=sys.stderr)
    return 1
