"""`irflow incidents` and `irflow leases`: what happened, how it stands, what is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, say, table

if TYPE_CHECKING:
    from irflow.core.incident import Incident
    from irflow.core.ports import Store
    from irflow.core.status import IncidentStatus

app = typer.Typer(no_args_is_help=True)
leases = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="INCIDENT", help="Number (IR-2026-0001) or ULID.")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Operator, where the account has several.")]


def find(store: Store, text: str) -> Incident:
    """The incident of this number or ULID. Raises UsageError."""
    from irflow.core.errors import UsageError

    found = store.find_incident(text)
    if found is None:
        raise UsageError(f"no incident {text}", hint="List them: irflow incidents list")
    return found


@app.command("list")
def list_(
    json: Json = False,
    closed: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
) -> None:
    """List incidents, newest first. Example: irflow incidents list --all"""
    from irflow.wiring import open_store

    with open_store(configuration().settings) as store:
        rows = store.incidents(closed=None if closed else False)
    if json:
        dump([{**one.model_dump(mode="json"), "closed": done} for one, done in rows])
        return
    table(
        "Incidents" if rows else "No incidents",
        ("number", "severity", "type", "title", "hosts", "detected", "state"),
        [
            (
                one.number,
                one.severity.value,
                one.type,
                one.title,
                ", ".join(one.hosts) or "-",
                f"{one.detected_at:%Y-%m-%d %H:%M:%S}Z",
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
        "leases": [vars(one) for one in status.leases.values()],
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
    now = datetime.now(UTC)
    told = summary(status, now)
    if json:
        dump(told)
        return
    one = status.incident
    say(f"{one.number}  {one.severity.value}  {one.type}: {one.title}")
    say(f"detected {one.detected_at:%Y-%m-%d %H:%M:%S}Z, sender {one.trust.value}, hosts {', '.join(one.hosts) or '-'}")
    if one.unknown_hosts:
        say(f"not in the inventory, so never touched: {', '.join(one.unknown_hosts)}")
    table(
        "",
        ("clock", "deadline", "used", "state"),
        [
            (
                clock["name"],
                f"{clock['deadline']:%Y-%m-%d %H:%M:%S}Z",
                f"{clock['used']:.0%}",
                clock["state"],
            )
            for clock in told["clocks"]
        ],
    )
    table("", ("step", "state", "detail"), [(step["key"], step["state"], step["detail"]) for step in told["steps"]])
    for step in status.waiting():
        planned = status.plan_step(step.key)
        what = (
            f"do it, then: irflow step {one.number} '{step.key}'" if planned.manual else f"irflow approve {one.number}"
        )
        say(f"waits for {planned.role}: {step.key} ({planned.manual or '; '.join(planned.reasons)}) -> {what}")


@app.command()
def note(incident: Name, text: Annotated[str, typer.Argument(help="What to put on record.")], who: As = None) -> None:
    """Put a note into the journal. Example: irflow incidents note IR-2026-0001 'Owner says the batch job is ours'"""
    from irflow.cli.decide import act
    from irflow.core import decisions

    act(incident, who, lambda tx, found, operator: decisions.note(tx, found.id, operator, text))
    say("noted")


@app.command()
def close(incident: Name, reason: Annotated[str, typer.Option(help="Why.")], who: As = None) -> None:
    """Close by hand; refused while a host is isolated. Example: irflow incidents close IR-2026-0001 --reason '...'"""
    from irflow.cli.decide import act
    from irflow.core import decisions

    act(incident, who, lambda tx, found, operator: decisions.close(tx, found.id, operator, reason))
    say("closed")


@leases.command("list")
def list_leases(json: Json = False) -> None:
    """List what is in force on which host, and until when. Example: irflow leases list --json"""
    from irflow.core.status import fold
    from irflow.wiring import open_store

    with open_store(configuration().settings) as store:
        rows = [
            {
                "incident": one.number,
                "kind": lease.kind,
                "target": lease.target,
                "until": lease.until,
                "step": lease.step,
            }
            for one, _ in store.incidents(limit=1000)
            for lease in fold(store.events(one.id)).leases.values()
        ]
    if json:
        dump(rows)
        return
    table(
        "Leases" if rows else "No leases in force",
        ("incident", "kind", "target", "until"),
        [(row["incident"], row["kind"], row["target"], f"{row['until']:%Y-%m-%d %H:%M:%S}Z") for row in rows],
    )
