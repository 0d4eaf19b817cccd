"""`irflow drill`: the whole path on lab hosts, scored."""

from __future__ import annotations

import json as json_
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irflow.cli.lab import within_user_namespace
from irflow.cli.output import progress, say, table

if TYPE_CHECKING:
    from irflow.drill.scorecard import CheckScore, Scorecard

ONE_BY_ONE = 3
"""Up to so many hosts each has its own lines; above, what passed alike on several is one line."""


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(drill)


def drill(
    scenario: Annotated[str, typer.Argument(help="Which attack is staged; --list names all.")] = "compromised-host",
    hosts: Annotated[
        int | None, typer.Option(min=1, max=500, help="How many hosts are attacked.", show_default="as few as it takes")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the scorecard there too.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep state, documents and evidence there.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave stack and lab up, for a look from outside.")] = False,
    sabotage: Annotated[
        str | None, typer.Option(metavar="STEP", help="Skip that step's effect; the drill must then fail.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the scenarios and exit.")] = False,
) -> None:
    """Attack lab hosts, respond with the production flow, score it. Example: irflow drill --hosts 3"""
    from irflow.drill import scenarios

    if list_:
        table(
            "", ("scenario", "hosts", ""), [(one.name, one.least_hosts, one.title) for one in scenarios.load().values()]
        )
        return
    scenarios.find(scenario)
    within_user_namespace()
    from irflow.drill.run import run_drill

    signal.signal(signal.SIGTERM, _terminated)
    card = run_drill(scenario, hosts=hosts, out=out, keep=keep, sabotage=sabotage, report=progress)
    show(card)
    if json:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_text(json_.dumps(card.to_json(), indent=2) + "\n")
        say(f"scorecard written to {json}")
    raise typer.Exit(0 if card.passed else 1)


def _terminated(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)  # through everything that cleans up


def show(card: Scorecard) -> None:
    """The scorecard for people."""
    say("")
    hosts = f"{card.hosts} host{'s' if card.hosts > 1 else ''}"
    say(f"Drill {card.scenario}: {hosts}, level {card.level}, incident {card.incident}")
    table(
        "",
        ("phase", "window", "from detection", "machine", "people", ""),
        [
            (
                one.phase,
                _span(one.window_s),
                f"{one.elapsed_s:.1f} s",
                f"{one.machine_s:.1f} s",
                f"{one.human_s:.1f} s",
                "met" if one.met else "failed" if one.trouble else "missed",
            )
            for one in card.phases
        ],
    )
    table(
        "",
        ("check, from outside", "before", "after", ""),
        [(one.name, one.before, one.after, "passed" if one.passed else "failed") for one in gathered(card)],
    )
    table(
        "",
        ("document", "SHA-256"),
        [("/".join(Path(one.path).parts[-2:]), one.sha256[:16] + "…") for one in card.documents],
    )
    if card.processes:
        say("memory (PSS): " + ", ".join(f"{name} {size:.0f} MB" for name, size in card.processes))
    contained = f"{card.time_to_contain_s:.2f} s" if card.time_to_contain_s is not None else "never"
    say(
        f"time to contain: {contained}   journal: {'verified' if card.journal_verified else 'NOT verified'}   "
        f"whole drill: {card.seconds:.0f} s"
    )
    say("PASSED" if card.passed else "FAILED: " + "; ".join(card.failed))


def gathered(card: Scorecard) -> list[CheckScore]:
    """The checks as they are shown: with many hosts, what passed with the same answers on several is one line."""
    if card.hosts <= ONE_BY_ONE:
        return list(card.checks)
    alike: dict[tuple[str, str, str], list[CheckScore]] = {}
    for one in card.checks:
        name = one.name.replace(one.host, "*") if one.host and one.passed else one.name
        alike.setdefault((name, one.before, one.after), []).append(one)
    return [
        group[0] if len(group) == 1 else group[0].model_copy(update={"name": name.replace("*", f"{len(group)} hosts")})
        for (name, _, _), group in alike.items()
    ]


def _span(seconds: float) -> str:
    for size, unit in ((604800, "week"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
