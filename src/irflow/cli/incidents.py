"""`irflow incidents`: what happened, how it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, say, short, table, told_halt, utc
from irflow.cli.person import As, Code, Json, Name, act, find, identify

if TYPE_CHECKING:
    from irflow.core.status import IncidentStatus

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(
    json: Json = False,
    closed: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
) -> None:
    """List incidents, newest first. Example: irflow incidents list --all"""
    from irflow.wiring import open_store

    with open_store(configuration().settings) as store:
        rows = store.incidents(closed=None if closed else False)
        halted = store.halted()
    if json:
        dump([{**one.model_dump(mode="json"), "closed": done} for one, done in rows])
        return
    told_halt(halted)
    if not rows:
        say("No incidents" if closed else "No open incidents; closed ones: irflow incidents list --all")
        return
    table(
        "",
        ("number", "severity", "type", "title", "hosts", "detected", "state"),
        [
            (
                one.number,
                one.severity.value,
                one.type,
                short(one.title),
                short(", ".join(one.hosts)) or "-",
                utc(one.detected_at),
                "closed" if done else "open",
            )
            for one, done in rows
        ],
    )


def summary(status: IncidentStatus, now: Any) -> dict[str, Any]:
    """How an incident stands, as JSON."""
    from irflow.core.clocks import clocks, elapsed

    return {
        **status.incident.model_dump(mode="json"),
        "closed_at": status.closed_at,
        "phases": [
            {
                "phase": one.phase,
                "started_at": one.started_at,
                "ended_at": one.ended_at,
                "outcome": one.outcome,
                "blocked": one.blocked,
                "elapsed_s": elapsed(one, now)[0],
                "human_s": elapsed(one, now)[2],
                "digest": one.plan.digest if one.plan else None,
            }
            for one in status.phases.values()
        ],
        "steps": [
            {
                "key": one.key,
                "target": one.target,
                "state": one.state.value,
                "epoch": one.epoch,
                "detail": one.outcome.get("detail") or one.outcome.get("note", ""),
                "ended_at": one.ended_at,
                "checks": one.outcome.get("checks", []),
            }
            for one in status.steps.values()
        ],
        "leases": [{**vars(one), "state": "in force"} for one in status.leases.values()]
        + [{**vars(one), "state": "expired"} for one in status.expired.values()],
        "clocks": [
            {
                "name": one.name,
                "deadline": one.deadline,
                "used": round(one.used(now), 4),
                "state": ("met" if one.met(now) else "missed") if one.stopped_at or not one.met(now) else "running",
            }
            for one in clocks(status, now)
        ],
    }


@app.command()
def show(incident: Name, json: Json = False) -> None:
    """Show one incident: phases, clocks, steps, what waits. Example: irflow incidents show IR-2026-0001"""
    from datetime import UTC, datetime

    from irflow.core.status import fold
    from irflow.wiring import open_store

    with open_store(configuration().settings) as store:
        status = fold(store.events(find(store, incident).id))
        halted = store.halted()
    now = datetime.now(UTC)
    told = summary(status, now)
    if json:
        dump(told)
        return
    told_halt(halted)
    _head(status)
    table(
        "",
        ("clock", "deadline", "used", "state"),
        [(clock["name"], utc(clock["deadline"]), f"{clock['used']:.0%}", clock["state"]) for clock in told["clocks"]],
    )
    if told["steps"]:
        table("", ("step", "state", "detail"), [(one["key"], one["state"], one["detail"]) for one in told["steps"]])
    else:
        say("no step was planned yet")
    _next(status)


def _head(status: IncidentStatus) -> None:
    one = status.incident
    say(f"{one.number}  {one.severity.value}  {one.type}: {one.title}")
    say(f"detected {utc(one.detected_at)}, sender {one.trust.value}, hosts {', '.join(one.hosts) or '-'}")
    if status.closed_at:
        say(f"closed {utc(status.closed_at)}")
    if one.unknown_hosts:
        say(f"not in the inventory, so never touched: {', '.join(one.unknown_hosts)}")
    if one.playbook is None:
        say(f"no playbook is for {one.type} at this severity: irflow run RUNBOOK --incident {one.number}")
    for lease in status.leases.values():
        say(f"in force: {lease.kind} of {lease.target} until {utc(lease.until)}, renewed while the incident is open")
    for lease in status.expired.values():
        say(f"EXPIRED: {lease.kind} of {lease.target} ran out at {utc(lease.until)}, so the target may be open")


def _next(status: IncidentStatus) -> None:
    """What a person can do now, with the command for it."""
    from irflow.core.status import TAKEN_BACK, TROUBLED, State

    number = status.incident.number
    unfinished = [one for one in status.steps.values() if one.state in TAKEN_BACK and one.state is not State.UNDONE]
    if unfinished:
        say("")
        for step in unfinished:
            say(f"{step.state.value}: {step.key}")
        say(f"-> mend the cause, then once more: irflow undo {number}")
        if status.open:
            say(f"-> or say that it was dealt with: irflow step {number} STEP --note '...'")
    if not status.open:
        return
    _waits(status, number)
    troubled = [step for step in status.steps.values() if step.state in TROUBLED - TAKEN_BACK]
    if not troubled:
        return
    say("")
    for step in troubled:
        say(f"{step.state.value}: {step.key}")
    say(f"-> mend the cause, then: irflow retry {number}")
    say(f"-> or say that it was dealt with: irflow step {number} STEP --note '...'")


def _waits(status: IncidentStatus, number: str) -> None:
    """What waits for whom, and how it is answered."""
    from irflow.core.mode import Mode

    asked: dict[str, list[str]] = {}
    for step in status.waiting():
        planned, phase = status.plan_step(step.key), step.key.partition("/")[0]
        plan = status.plan(phase)
        if planned.manual:
            say("")
            say(f"waits for {planned.role}: {planned.manual}\n-> irflow step {number} '{step.key}' --note '...'")
        elif plan is not None and plan.mode is Mode.STEP:
            say("")
            say(f"waits for a decision{' after a failure' if step.failed else ''}: {step.key}\n-> irflow step {number}")
        else:
            why = f"{planned.people} x {planned.role}: {'; '.join(planned.reasons)}"
            asked.setdefault(f"{phase}\n{why}", []).append(step.key.partition("/")[2])
    for group, keys in asked.items():
        phase, _, why = group.partition("\n")
        say("")
        say(f"waits for {why}: {short(', '.join(keys), 300)}\n-> irflow plan {number} --phase {phase}")
        say(f"-> irflow approve {number} --phase {phase}")


@app.command()
def note(
    incident: Name,
    text: Annotated[str, typer.Argument(help="What to put on record.")],
    who: As = None,
    code: Code = None,
) -> None:
    """Put a note into the journal. Example: irflow incidents note IR-2026-0001 'Owner says the batch job is ours'"""
    from irflow.core import decisions

    act(
        incident, (who, code), "note",
        lambda tx, found, by: decisions.note(tx, found.id, by.operator, text, method=by.method), works=False,
    )  # fmt: skip
    say("noted")


@app.command("add-host")
def add_host(
    incident: Name,
    hosts: Annotated[list[str] | None, typer.Argument(metavar="[HOST]...", help="Names of the inventory.")] = None,
    address: Annotated[list[str] | None, typer.Option(help="An address or network; repeat for each.")] = None,
    account: Annotated[list[str] | None, typer.Option(help="An account; repeat for each.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the journal.")] = "",
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Add what is concerned too; plans are made anew. Example: irflow incidents add-host IR-2026-0001 web-2"""
    from irflow.core import targets
    from irflow.core.errors import UsageError

    if not (hosts or address or account):
        raise UsageError("say what to add", hint="HOST..., --address or --account")
    inventory = configuration().catalog.inventory
    named = targets.checked(inventory, hosts=hosts or (), addresses=address or (), accounts=account or ())
    new = act(
        incident, (who, code), "add-host",
        lambda tx, found, by: targets.add_targets(tx, found.id, by.operator, named, reason, method=by.method),
    )  # fmt: skip
    if json:
        dump(new.to_data())
        return
    say(f"added: {', '.join((*new.hosts, *new.addresses, *new.accounts))}")
    say(f"what is done stays; the rest is planned anew, and yeses to earlier plans are void: irflow plan {incident}")


@app.command()
def join(
    local: Annotated[
        str | None, typer.Argument(metavar="[LOCAL]", help="Name or file; all in turn if left out.")
    ] = None,
    incident: Annotated[str | None, typer.Argument(metavar="[INCIDENT]", help="An open one; else its own.")] = None,
    who: As = None,
    code: Code = None,
) -> None:
    """Make a run that had a journal of its own part of an incident. Example: irflow incidents join LOCAL-01K9Z"""
    from irflow import breakglass
    from irflow.adapters.wake import wake
    from irflow.core.identity import Deed, require
    from irflow.wiring import open_store

    config = configuration()
    with open_store(config.settings) as store:
        operator = identify(config, store, who, code, "join").operator
        require(operator, Deed.JOIN)
        chosen = [breakglass.find(config.settings, local)] if local else breakglass.waiting(config.settings)
        for glass in chosen:
            found = breakglass.join(config.settings, store, glass, incident, f"operator:{operator.name}")
            say(f"{glass.name} is part of {found.number} now")
    if not chosen:
        say("nothing is waiting to be joined")
    wake(config.settings.responder_socket)


@app.command()
def close(
    incident: Name,
    reason: Annotated[str, typer.Option(help="Why.")],
    false_positive: Annotated[
        bool, typer.Option("--false-positive", help="Nothing was wrong: take everything back first.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --false-positive: do not ask.")] = False,
    who: As = None,
    code: Code = None,
) -> None:
    """Close by hand; refused while a host is isolated. Example: irflow incidents close IR-2026-0001 --reason '...'"""
    from irflow.cli.undo import close_false_positive
    from irflow.core import decisions

    if false_positive:
        close_false_positive(incident, reason, (who, code), yes=yes)
    else:
        act(
            incident, (who, code), "close",
            lambda tx, found, by: decisions.close(tx, found.id, by.operator, reason, method=by.method), works=False,
        )  # fmt: skip
    say("closed")
