"""`irflow leases`: what is in force where and until when; prolong it, end it, look at every target now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, runtime, say, short, table, utc
from irflow.cli.person import As, Code, Json, Name, find

if TYPE_CHECKING:
    from datetime import datetime

    from irflow.core.ports import Store
    from irflow.core.status import IncidentStatus, Lease
    from irflow.responder.lease_look import Looked

app = typer.Typer(no_args_is_help=True)

Target = Annotated[str, typer.Argument(metavar="TARGET", help="Inventory name of the host.")]
KindArgument = Annotated[
    str | None, typer.Argument(metavar="[KIND]", help="As `leases list` names it, where the host has several.")
]
PATIENCE_S = 20.0
"""How long a look waits while another process, as a rule the responder, is at the same step."""


@app.command("list")
def list_(json: Json = False) -> None:
    """List what is in force on which host, and until when. Example: irflow leases list --json"""
    from datetime import UTC, datetime

    from irflow.wiring import open_store

    now = datetime.now(UTC)
    with open_store(configuration().settings) as store:
        rows = [
            _row(status, lease, now)
            for status in _open_ones(store)
            for lease in sorted(
                (*status.leases.values(), *status.expired.values()), key=lambda one: (one.target, one.kind)
            )
        ]
    if json:
        dump(rows)
        return
    if not rows:
        say("No leases in force")
        return
    table(
        "",
        ("incident", "kind", "target", "until", "left", "state", "last proved", "drift"),
        [
            (
                one["incident"], one["kind"], one["target"], utc(one["until"]), _duration(one["left_s"]), one["state"],
                utc(one["seen_at"]), f"{one['drift']} {utc(one['drifted_at'])}" if one["drift"] else "-",
            )
            for one in rows
        ],
    )  # fmt: skip


def _row(status: IncidentStatus, lease: Lease, now: datetime) -> dict[str, Any]:
    """One lease as the journal has it."""
    from irflow.core.leases import standing

    return {
        "incident": status.incident.number, "kind": lease.kind, "target": lease.target, "until": lease.until,
        "left_s": max(0.0, round((lease.until - now).total_seconds(), 1)), "state": standing(status, lease, now),
        "step": lease.step,
        "granted_at": lease.granted_at, "seen_at": lease.seen_at or lease.granted_at, "seconds": lease.seconds,
        "unseen_since": lease.unseen_since, "drift": lease.drift, "drifted_at": lease.drifted_at,
    }  # fmt: skip


@app.command()
def reconcile(
    incident: Annotated[str | None, typer.Argument(metavar="[INCIDENT]", help="Only this one.")] = None,
    json: Json = False,
) -> None:
    """Look at every target now, cut again what is open. Exit 1: something had drifted; 4: something is unreachable.

    Example: irflow leases reconcile IR-2026-0001
    """
    from irflow.adapters.wake import wake
    from irflow.responder.lease_look import LeaseLook
    from irflow.responder.leases import look_at_all

    with runtime("cli") as wired:
        ids = {find(wired.store, incident).id} if incident else None
        statuses = [one for one in _open_ones(wired.store) if ids is None or one.incident.id in ids]
        look = LeaseLook(wired.engine, wired.engine.actor, PATIENCE_S)
        found = look_at_all(look, statuses, parallel=2 * wired.engine.slots.count)
    wake(wired.settings.responder_socket)  # it sends the messages
    _report(found, json=json)


@app.command()
def renew(
    incident: Name,
    target: Target,
    kind: KindArgument = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="TIME", help="From now on so long: 4h, 90m.")] = None,
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Prolong what is in force on a host, or cut it again. Example: irflow leases renew IR-2026-0001 web-1 --for 4h"""
    from irflow.cli.person import identify
    from irflow.core.identity import Deed, require
    from irflow.responder.lease_look import LeaseLook
    from irflow.responder.leases import by_step

    seconds = _seconds(for_)
    with runtime("cli") as wired:
        found_one = find(wired.store, incident)
        operator = identify(wired.configuration, wired.store, who, code, f"leases renew {found_one.number}").operator
        require(operator, Deed.RENEW)
        status = wired.engine.status(found_one.id)
        look = LeaseLook(wired.engine, f"operator:{operator.name}", PATIENCE_S)
        found = [
            (status, one)
            for held in by_step(_chosen(status, target, kind))
            for one in look.look(status, held, renew=True, for_s=seconds)
        ]
    _report(found, json=json)


@app.command()
def release(
    incident: Name,
    target: Target,
    kind: KindArgument = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; agree in your own role.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the journal.")] = "",
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """End what is in force on a host: the step is taken back and that is proved. Always takes a person.

    Example: irflow leases release IR-2026-0001 web-1
    """
    from irflow import undoing
    from irflow.cli.person import identify
    from irflow.cli.undo import agreed_and_taken_back, told_undo
    from irflow.core.errors import Refused, UsageError

    with runtime("cli") as wired:
        found = find(wired.store, incident)
        steps = {one.step: one for one in _chosen(wired.engine.status(found.id), target, kind)}
        if len(steps) > 1:
            kinds = ", ".join(repr(one.kind) for one in steps.values())
            raise UsageError(f"{target} has several leases", hint=f"Say which: {kinds}")
        step = next(iter(steps))
        planned = undoing.look(wired, found, step)
        if not planned.steps:
            raise Refused("; ".join(one.reason for one in planned.left) or f"{step} has nothing to take back")
        person = identify(wired.configuration, wired.store, who, code, f"leases release {found.number}")
        ended = agreed_and_taken_back(wired, found, person, step=step, yes=yes, reason=reason, quiet=json)
    told_undo(found, ended, json=json)


# ---------------------------------------------------------------- what they share


def _open_ones(store: Store) -> list[IncidentStatus]:
    """All open incidents as the journal has them, oldest first."""
    from irflow.core.status import fold

    return [fold(store.events(one.id)) for one, _ in reversed(store.incidents(closed=False, limit=10_000))]


def _chosen(status: IncidentStatus, target: str, kind: str | None) -> list[Lease]:
    """The leases of a target that are to be kept. Raises UsageError when there is none."""
    from irflow.core.errors import UsageError
    from irflow.core.leases import kept

    every = kept(status)
    found = [one for one in every if one.target == target and kind in (None, one.kind)]
    if not found:
        same = [one for one in every if one.target == target]
        there = ", ".join(f"{one.kind!r} on {one.target}" for one in same or every) or "nothing"
        raise UsageError(f"{status.incident.number} has no {kind or 'lease'} on {target}", hint=f"In force: {there}")
    return found


def _seconds(text: str | None) -> float | None:
    from irflow.core.errors import UsageError
    from irflow.core.model import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError:
        seconds = 0.0
    if seconds < 60:
        raise UsageError(f"--for {text!r} is no time of a minute or more", hint="Write 90m, 4h or 2d")
    return seconds


def _report(found: Sequence[tuple[IncidentStatus, Looked]], *, json: bool) -> None:
    """What the looks found; ends with the exit code for it."""
    from irflow.core.leases import Finding

    if json:
        dump([_found(status, one) for status, one in found])
    elif not found:
        say("No leases in force")
    else:
        table(
            "",
            ("incident", "kind", "target", "found", "what was done", "until"),
            [
                (
                    status.incident.number, one.lease.kind, one.lease.target, one.finding.value,
                    short("; ".join(text for text in (one.done, one.detail) if text) or "-", 200),
                    utc(one.until) if one.until else "-",
                )
                for status, one in found
            ],
        )  # fmt: skip
    if any(one.finding.drift for _, one in found):
        raise typer.Exit(1)
    if any(one.finding in (Finding.UNREACHABLE, Finding.BUSY) for _, one in found):
        raise typer.Exit(4)


def _found(status: IncidentStatus, one: Looked) -> dict[str, Any]:
    return {
        "incident": status.incident.number, "kind": one.lease.kind, "target": one.lease.target,
        "step": one.lease.step, "finding": one.finding.value, "done": one.done, "detail": one.detail,
        "until": one.until, "in_force": one.in_force,
    }  # fmt: skip


def _duration(seconds: float) -> str:
    """`7 h 59 min`, `59 min`, `42 s`."""
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
