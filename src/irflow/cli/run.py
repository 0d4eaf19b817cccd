"""`irflow run` and `irflow respond`: start something by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irflow.cli.decide import show_plan
from irflow.cli.output import configuration, dump, nobody_works, progress, runtime, say, table
from irflow.cli.pairs import pairs
from irflow.cli.person import OS_ACCOUNT, As, Code, Json, Person, identify, operator_of
from irflow.cli.preview import looked_at, show, told, unknown
from irflow.cli.walk import Walk
from irflow.core.mode import Mode

if TYPE_CHECKING:
    from irflow.core.incident import Incident
    from irflow.core.plan import Plan
    from irflow.manual_run import RunResult
    from irflow.wiring import Runtime


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
    mode: Annotated[Mode, typer.Option(help="approve: a yes before anything runs. step: one before each step.")] = (
        Mode.AUTOMATIC
    ),
    reason: Annotated[str, typer.Option(help="Why; it stands in the journal.")] = "",
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Run one runbook by itself. Example: irflow run isolate-host --param hosts=web-1 --local --yes"""
    from irflow import breakglass
    from irflow.manual_run import begin, prepare, run_here

    arguments = pairs(param or [], "--param")
    with breakglass.runtime(configuration(), local=local) as (wired, glass):
        person = _who(wired, who, code, "" if dry_run else f"run {runbook}")
        if glass:
            progress(f"THE JOURNAL CANNOT BE REACHED: this run has one of its own, {glass.path}")
            progress(f"it is joined by the next responder, or by: irflow incidents join {glass.name}")
        name, phase = (glass.name, glass.phase) if glass else ("", "run-1")
        found, plan = prepare(
            wired, person.operator, runbook, arguments, None if glass else incident, phase=phase, mode=mode
        )
        if dry_run:
            ((_, previews),) = seen = looked_at(wired, found, (plan,))
            dump(told(plan, previews)) if json else show(plan, previews)
            raise typer.Exit(4 if unknown(seen) else 0)
        if glass and plan.people and not yes:  # nobody could say so later
            show_plan(plan)
            yes = typer.confirm("Approve this in your own role?", abort=True, err=True)
        found, plan = begin(
            wired, person.operator, found, plan, arguments,
            approve=yes, to_prefect=not local, number=name, method=person.method, reason=reason,
        )  # fmt: skip
        if not local:
            _requested(wired, found, plan, json)
            return
        progress(f"{found.number}: running {runbook} here")
        if glass:
            breakglass.mean(wired, glass, found, incident)
        result = run_here(wired, found, plan)
        if mode is not Mode.AUTOMATIC and sys.stdin.isatty() and not json:
            result = _walked(wired, found, plan, result, who)
        if glass:
            breakglass.seal(wired)
    _show_result(found, runbook, result, json)
    raise typer.Exit(result.exit_code)


def _walked(wired: Runtime, incident: Incident, plan: Plan, result: RunResult, who: str | None) -> RunResult:
    """Ask here what waits, and go on, until nothing does. While that lasts no other process takes the run over."""
    from irflow.manual_run import at_terminal, run_here

    with at_terminal(wired, incident, plan):
        walk = Walk(wired.configuration, wired.store, incident.id, phase=plan.phase, who=who)
        while result.state == "awaiting_approval":
            walk.go()
            result = run_here(wired, incident, plan)
    return result


def _who(wired: Runtime, who: str | None, code: str | None, deed: str) -> Person:
    """Who runs it, proved; who only looks, with no deed, need not prove it."""
    if not deed:
        return Person(operator_of(wired.configuration.operators, who), OS_ACCOUNT)
    return identify(wired.configuration, wired.store, who, code, deed)


def _requested(wired: Runtime, incident: Incident, plan: Plan, json: bool) -> None:
    if json:
        dump({"incident": incident.number, "state": "requested", "phase": plan.phase, "steps": []})
    else:
        say(f"{incident.number}: {plan.phase} is on its way; see irflow incidents show {incident.number}")
    nobody_works(wired.configuration, wired.store)


def _show_result(incident: Incident, runbook: str, result: RunResult, json: bool) -> None:
    rows = [(key, one.state.value, one.detail) for key, one in result.steps.items()]
    if json:
        steps = [{"key": key, "state": state, "detail": detail} for key, state, detail in rows]
        dump({"incident": incident.number, "state": result.state, "steps": steps})
    else:
        table(f"{incident.number} {runbook}: {result.state}", ("step", "state", "detail"), rows)


def respond(
    alert: Annotated[Path, typer.Option("--alert", help="File with the JSON body of an alert (docs/alerts.md).")],
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Open an incident from a file, as a webhook would. Example: irflow respond --alert alert.json"""
    from irflow.core.errors import UsageError
    from irflow.manual_run import accept_file

    if not alert.is_file():
        raise UsageError("no such file", where=str(alert))
    with runtime("cli") as wired:
        operator = identify(wired.configuration, wired.store, who, code, "respond").operator
        answer = accept_file(wired, operator, alert)
    if json:
        dump(answer)
    else:
        for one in answer["alerts"]:
            again = f", which has it already as alert {one['duplicate_of']}" if one["duplicate_of"] else ""
            say(f"alert {one['alert_id']} -> incident {one['incident_id'] or '-'}{again}")
