"""`irflow run` and `irflow respond`: start something by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from irflow.cli.decide import operator_of
from irflow.cli.incidents import As, Json
from irflow.cli.output import dump, nobody_works, progress, runtime, say, table
from irflow.cli.preview import looked_at, show, told, unknown


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (run, respond):
        app.command()(command)


def run(
    runbook: Annotated[str, typer.Argument(help="Id of the runbook.")],
    param: Annotated[list[str] | None, typer.Option("--param", metavar="K=V", help="Repeat for each.")] = None,
    incident: Annotated[str | None, typer.Option(help="Do it for this incident; a new one otherwise.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Here and now, without Prefect.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at the targets, say what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Approve the plan too, in your own role.")] = False,
    who: As = None,
    json: Json = False,
) -> None:
    """Run one runbook by itself. Example: irflow run isolate-host --param hosts=web-1 --local --yes"""
    from irflow.core.errors import UsageError
    from irflow.manual_run import begin, prepare, run_here

    arguments = {}
    for text in param or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--param {text}: write K=V")
        arguments[key] = value
    with runtime("cli") as wired:
        operator = operator_of(wired.configuration.operators, who)
        found, plan = prepare(wired, operator, runbook, arguments, incident)
        if dry_run:
            ((_, previews),) = seen = looked_at(wired, found, (plan,))
            dump(told(plan, previews)) if json else show(plan, previews)
            raise typer.Exit(4 if unknown(seen) else 0)
        found, plan = begin(wired, operator, found, plan, arguments, approve=yes, to_prefect=not local)
        if not local:
            if json:
                dump({"incident": found.number, "state": "requested", "phase": plan.phase, "steps": []})
            else:
                say(f"{found.number}: {plan.phase} is on its way; see irflow incidents show {found.number}")
            nobody_works(wired.configuration)
            return
        progress(f"{found.number}: running {runbook} here")
        result = run_here(wired, found, plan)
    rows = [(key, one.state.value, one.detail) for key, one in result.steps.items()]
    if json:
        dump(
            {
                "incident": found.number,
                "state": result.state,
                "steps": [{"key": key, "state": state, "detail": detail} for key, state, detail in rows],
            }
        )
    else:
        table(f"{found.number} {runbook}: {result.state}", ("step", "state", "detail"), rows)
    raise typer.Exit(result.exit_code)


def respond(
    alert: Annotated[Path, typer.Option("--alert", help="File with the JSON body of an alert (docs/alerts.md).")],
    who: As = None,
    json: Json = False,
) -> None:
    """Open an incident from a file, as a webhook would. Example: irflow respond --alert alert.json"""
    from irflow.core.errors import UsageError
    from irflow.manual_run import accept_file

    if not alert.is_file():
        raise UsageError("no such file", where=str(alert))
    with runtime("cli") as wired:
        operator = operator_of(wired.configuration.operators, who)
        answer = accept_file(wired, operator, alert)
    if json:
        dump(answer)
    else:
        for one in answer["alerts"]:
            say(f"alert {one['alert_id']} -> incident {one['incident_id'] or '-'}")
