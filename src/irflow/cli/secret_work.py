"""Something done for many secrets: a bar while it lasts, a line in the journal for each change, a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from irflow.cli.output import dump, progress, say, short, table

if TYPE_CHECKING:
    from irflow.core.rotation import Rotation
    from irflow.core.rotations import Done, Rotates
    from irflow.wiring import Configuration


def work(
    config: Configuration, chosen: Sequence[str], do: Callable[[Rotates], Rotation], parallel: int, *, json: bool,
    again: str = "", words: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """Do it for each; ends with the exit code for the results.

    again: what goes on with it after Ctrl-C, for people; empty for what changes nothing, which is not journalled.
    words: for people, in place of a result's own.
    """
    from irflow.core.rotations import each
    from irflow.wiring.rotators import open_rotations
    from irflow.wiring.secret_journal import secret_journal, unnoted

    ended: list[Done] = []
    noting = secret_journal(config.settings, _actor(config), progress) if again else nullcontext(unnoted)
    try:
        with noting as told, open_rotations(config) as rotations, _bar(len(chosen)) as drawn:

            def report(done: Done) -> None:
                ended.append(done)
                drawn(done)

            each(config.secrets, chosen, lambda one: do(rotations.rotator(one, told)), report=report, parallel=parallel)
    except KeyboardInterrupt:
        good = sum(one.good for one in ended)
        progress(f"stopped: {good} of {len(chosen)} done" + (f"; {again} goes on with the rest" if again else ""))
        raise
    _tell(sorted(ended, key=lambda done: done.name), words or {}, json=json)


def _actor(config: Configuration) -> str:
    """Whom the journal names: the operator of this account, where it is that of one."""
    from irflow.cli.person import operator_of
    from irflow.core.errors import Refused

    try:
        return f"operator:{operator_of(config.operators, None).name}"
    except Refused:  # a stolen secret is replaced by whoever can: what irflow may do in Vault is decided there
        return "irflow:cli"


@contextmanager
def _bar(total: int) -> Iterator[Callable[[Done], None]]:
    """A bar on a terminal; elsewhere a line for each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: progress(f"{done.name}: {done.result} ({done.seconds:.1f} s)")
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as drawn:
        task = drawn.add_task("secrets", total=total)
        yield lambda done: drawn.update(task, advance=1, description=done.name)


def _tell(ended: Sequence[Done], words: dict[str, str], *, json: bool) -> None:
    """Each result; ends with exit code 1 when none is good, 4 when some are not."""
    if json:
        dump([_result(one, words) for one in ended])
    else:
        table(
            "", ("name", "result", "seconds", "refused for", "why"),
            [
                (one.name, words.get(one.result, one.result), f"{one.seconds:.2f}",
                 f"{one.rotation.gap_s * 1000:.0f} ms" if one.rotation and one.rotation.gap_s is not None else "-",
                 short(str(one.error), 200) if one.error else "-")
                for one in ended
            ],
        )  # fmt: skip
    bad = [one for one in ended if not one.good]
    for one in bad:
        if one.rotation and str(one.rotation.result) == "rolled back":
            progress(f"{one.name}: the value from before works again, although somebody else may know it")
    if not json:
        say(f"{len(ended) - len(bad)} of {len(ended)} done")
    if bad:
        raise typer.Exit(1 if len(bad) == len(ended) else 4)


def _result(one: Done, words: dict[str, str]) -> dict[str, Any]:
    found = one.rotation
    return {
        "name": one.name, "result": words.get(one.result, one.result), "seconds": round(one.seconds, 3),
        "gap_s": found.gap_s if found else None, "version": found.after if found else None,
        "error": str(one.error) if one.error else None,
    }  # fmt: skip
