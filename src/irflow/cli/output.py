"""Printing: tables for people, JSON for machines, errors that say what to do next."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from irflow.core.ports import Store
    from irflow.wiring import Configuration, Runtime

HOME: dict[str, Path | None] = {"path": None}
"""What --home said; read through configuration()."""

WIDE = 160
"""Columns of a table that goes into a file or a pipe."""

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
    "undone": "green",
    "undoing": "yellow",
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
    print(_shown(text))


def progress(text: str) -> None:
    """One line about work in progress, on standard error, so that --json stays clean."""
    print(_shown(text), file=sys.stderr, flush=True)


def dump(value: Any) -> None:
    """JSON on standard output. Characters that a terminal would obey stand there as escapes."""
    from irflow.core.revealed import redact

    text = redact(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    print("".join(one if one == "\n" or one.isprintable() else _escaped(one) for one in text))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table that is readable without colour too; the first column is never broken."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for number, column in enumerate(columns):
        drawn.add_column(column, overflow="fold", no_wrap=number == 0)
    for row in rows:
        cells = [_shown(str(cell)) for cell in row]
        drawn.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    # A file or a pipe has no width to keep to.
    free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(highlight=False, width=WIDE if free else None)
    with console.capture() as text:
        console.print(drawn)
    say(title or "")
    for line in text.get().splitlines():
        print(line.rstrip())


def utc(moment: datetime) -> str:
    """A moment as people read it, to the second, UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def told_halt(reason: str | None) -> None:
    """Say first that nothing moves, and why."""
    if reason is not None:
        say(f"HALTED: no step begins anywhere ({reason}); irflow resume lifts it")


def nobody_works(config: Configuration, store: Store) -> None:
    """Say so when what was just decided is not done now: automation is halted, or nobody is there to do it."""
    from irflow.adapters.wake import listening

    halted = store.halted()
    if halted is not None:
        progress(f"note: automation is halted ({halted}), so nothing happens until `irflow resume`")
    if not listening(config.settings.responder_socket):
        progress("note: no responder runs here, so nothing happens until one does: irflow up")


def short(text: str, most: int = 60) -> str:
    """A text cut to `most` characters; --json has all of it."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _shown(text: str) -> str:
    """Without secrets, and without what a terminal would obey: it may come from an alert or an attacked host."""
    from irflow.core.revealed import redact
    from irflow.intake.text import clean

    text = redact(text)
    return clean(text, 1 << 20, lines=True) if not text.isprintable() else text


def _escaped(one: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(one.encode("utf-16-le", "surrogatepass")).cast("H"))


def fail(error: Exception) -> int:
    """Tell people what went wrong and return the exit code."""
    from irflow.core.errors import ConfigurationErrors, IrflowError
    from irflow.redaction import told

    if isinstance(error, ConfigurationErrors):
        for one in error.errors:
            progress(f"error: {one}")
        number = len(error.errors)
        print(f"{number} mistake{'s' if number > 1 else ''} to mend", file=sys.stderr)
        return error.exit_code
    if isinstance(error, IrflowError):
        progress(f"error: {error}")
        return error.exit_code
    show = getattr(error, "show", None)  # typer's own usage errors know how to print themselves
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, typer.Abort):
        print("aborted", file=sys.stderr)
        return 130
    progress(told(error).rstrip())
    print("error: this is a defect of irflow; the lines above say where", file=sys.stderr)
    return 1
