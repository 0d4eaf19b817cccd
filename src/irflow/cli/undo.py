"""`irflow undo`, and `incidents close --false-positive`: shown first, agreed to, then taken back and proved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from irflow.cli.output import dump, progress, runtime, say, table
from irflow.cli.person import As, Code, Json, Name, Person, find, identify

if TYPE_CHECKING:
    from irflow.core.incident import Incident
    from irflow.core.taking_back import UndoResult
    from irflow.core.undo import UndoPlan, UndoStep
    from irflow.undoing import Undone
    from irflow.wiring import Runtime


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(undo)


def undo(
    incident: Name,
    step: Annotated[str | None, typer.Option(metavar="KEY", help="Only this step; see incidents show.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; agree in your own role.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be taken back, change nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the journal.")] = "",
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Take back what an incident changed, last first, proving each. Example: irflow undo IR-2026-0001 --dry-run"""
    from irflow.undoing import look

    with runtime("cli") as wired:
        found = find(wired.store, incident)
        if dry_run:
            plan = look(wired, found, step)
            dump(_planned(found, plan)) if json else show_undo(found, plan)
            return
        person = identify(wired.configuration, wired.store, who, code, f"undo {found.number}")
        ended = agreed_and_taken_back(wired, found, person, step=step, yes=yes, reason=reason, quiet=json)
    told_undo(found, ended, json=json)


def close_false_positive(incident: str, reason: str, who: tuple[str | None, str | None], *, yes: bool) -> None:
    """Take everything back, then close; what could not be taken back keeps the incident open (exit 3).

    who: --as and --code.
    """
    from irflow import undoing

    with runtime("cli") as wired:
        found = find(wired.store, incident)
        person = identify(wired.configuration, wired.store, *who, f"close {found.number}")
        why = f"false positive: {reason}"
        ended = agreed_and_taken_back(wired, found, person, step=None, yes=yes, reason=why, quiet=False)
        undoing.close_false_positive(wired, found, person.operator, reason, ended.results, method=person.method)


def agreed_and_taken_back(
    wired: Runtime, incident: Incident, person: Person, *, step: str | None, yes: bool, reason: str, quiet: bool
) -> Undone:
    """Show the plan, ask unless `yes`, and do it. Raises typer.Exit (3) while another person must agree."""
    from irflow import undoing

    seen = undoing.look(wired, incident, step)
    if not quiet:
        show_undo(incident, seen)
    if not yes:
        typer.confirm("Take this back now?", abort=True, err=True)
    asked = undoing.agree(wired, seen, person.operator, method=person.method, step=step, reason=reason)
    if asked.missing:
        if quiet:
            dump({**_planned(incident, seen), "still_needed": asked.missing})
        progress(f"{asked.missing} more must agree before anything is taken back: irflow undo {incident.number}")
        raise typer.Exit(3)
    return undoing.take_back(wired, asked.plan, person.operator, step=step, report=_report)


def show_undo(incident: Incident, plan: UndoPlan) -> None:
    """What would be taken back, in which order, what stays, and who must agree."""
    if not plan.steps:
        say(f"{incident.number}: nothing to take back")
    else:
        people = "; ".join(plan.reasons) or "one incident commander must agree"
        table(
            f"{incident.number}: to be taken back, in this order, digest {plan.digest}\n{people}",
            ("step", "target", "what it changed"),
            [(one.key, one.target or "-", _what(one)) for one in plan.steps],
        )
    for left in plan.left:
        say(f"stays: {left.key}: {left.reason}")
    if plan.dropped:
        say(f"not done any more: {', '.join(plan.dropped)}")


def _what(step: UndoStep) -> str:
    if step.heir:
        return f"stays in force for {step.heir.number}, which needs it too"
    return "; ".join(each["summary"] for each in step.changes)


def _planned(incident: Incident, plan: UndoPlan) -> dict[str, Any]:
    return {"incident": incident.number, "digest": plan.digest, **plan.model_dump(mode="json", exclude={"incident"})}


def _told(incident: Incident, ended: Undone) -> dict[str, Any]:
    return {
        "incident": incident.number,
        "digest": ended.plan.digest,
        "complete": ended.complete,
        "steps": [
            {
                "key": one.key,
                "target": one.target,
                "state": one.state.value,
                "detail": one.detail,
                "checks": [vars(check) for check in one.checks],
            }
            for one in ended.results
        ],
        "left": [one.model_dump(mode="json") for one in ended.plan.left],
    }


def told_undo(incident: Incident, ended: Undone, *, json: bool) -> NoReturn:
    """Show how an undo ended; ends with the exit code for it."""
    if json:
        dump(_told(incident, ended))
    else:
        _show_results(incident, ended)
    raise typer.Exit(ended.exit_code)


def _report(result: UndoResult) -> None:
    progress(f"{result.state.value}: {result.key}{f': {result.detail}' if result.detail else ''}")


def _show_results(incident: Incident, ended: Undone) -> None:
    if ended.results:
        table(
            f"{incident.number}: {'everything is taken back' if ended.complete else 'NOT everything is taken back'}",
            ("step", "state", "proof"),
            [
                (
                    one.key,
                    one.state.value,
                    one.detail or "; ".join(f"{check.name} ({check.after})" for check in one.checks),
                )
                for one in ended.results
            ],
        )
    if not ended.complete:
        say(f"-> mend the cause, then once more: irflow undo {incident.number}")
