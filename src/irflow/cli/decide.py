"""`irflow plan`, `approve`, `retry`, `halt`, `resume`: what people decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from irflow.cli.output import configuration, dump, say, short, table
from irflow.cli.person import As, Code, Json, Name, Person, act, find, identify

if TYPE_CHECKING:
    from irflow.core.incident import Incident
    from irflow.core.plan import Plan, PlanStep
    from irflow.core.ports import Transaction

T = TypeVar("T")


def show_plan(plan: Plan) -> None:
    """The steps of a plan, and the digest that an approval names. Long texts are cut; --json has all of them."""
    table(
        f"{plan.phase}, revision {plan.revision}, digest {plan.digest}",
        ("step", "target", "what", "who must agree"),
        [
            (
                f"{one.runbook}.{one.step}",
                one.target or "-",
                one.manual or f"{one.action} {_params(one.params)}",
                _who(one),
            )
            for one in plan.steps
        ],
    )
    say("")
    for reason in plan.refusals:
        say(f"left out: {reason}")


def _who(step: PlanStep) -> str:
    if step.manual:
        return f"done by {step.role}"
    return f"{step.people} x {step.role}: {'; '.join(step.reasons)}" if step.people else "-"


def _params(params: dict[str, object]) -> str:
    shown = {key: value for key, value in params.items() if value not in (None, [], ()) and key != "host"}
    return " ".join(f"{key}={short(_listed(value))}" for key, value in shown.items())


def _listed(value: object) -> str:
    return ",".join(str(one) for one in value) if isinstance(value, (list, tuple)) else str(value)


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (plan, approve, retry, halt, resume):
        app.command()(command)


def plan(
    incident: Name,
    phase: Annotated[str | None, typer.Option(help="Only this phase.")] = None,
    observe: Annotated[bool, typer.Option("--observe", help="Look at the targets too; changes nothing.")] = False,
    json: Json = False,
) -> None:
    """Show exactly what would happen, on which target, with the digest. Example: irflow plan IR-2026-0001"""
    from irflow.core.phase import plans as plans_of
    from irflow.core.status import fold
    from irflow.wiring import open_store

    config = configuration()
    with open_store(config.settings) as store:
        status = fold(store.events(find(store, incident).id))
    plans = [one for one in plans_of(config.catalog, status) if phase in (None, one.phase)]
    if observe:
        _observed(status.incident, tuple(plans), json)
    if json:
        dump([{**one.model_dump(mode="json"), "digest": one.digest} for one in plans])
        return
    for one in plans:
        show_plan(one)


def _observed(incident: Incident, plans: tuple[Plan, ...], json: bool) -> None:
    """A dry run of the plans; ends the command. Exit 4 when a target could not be looked at."""
    from irflow.cli import preview
    from irflow.cli.output import runtime

    with runtime("cli") as wired:
        seen = preview.looked_at(wired, incident, plans)
    if json:
        dump([preview.told(*one) for one in seen])
    else:
        for one in seen:
            preview.show(*one)
    raise typer.Exit(4 if preview.unknown(seen) else 0)


def approve(
    incident: Name,
    phase: Annotated[str | None, typer.Option(help="Which plan, when several wait.")] = None,
    digest: Annotated[str | None, typer.Option(help="Approve only if the plan still has this digest.")] = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Say no instead.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the journal.")] = "",
    who: As = None,
    code: Code = None,
    json: Json = False,
) -> None:
    """Say yes to exactly the plan that waits. Example: irflow approve IR-2026-0001 --phase recovery"""
    from irflow.core import decisions
    from irflow.core.errors import Refused
    from irflow.core.status import fold

    def work(tx: Transaction, found: Incident, person: Person) -> tuple[Plan, int, list[str]]:
        status = fold(tx.events(found.id))
        waiting = decisions.waiting_plan(status, phase)
        late = [one.target for one in waiting.steps if decisions.expired(status.step(one.key))]
        if digest is not None and not waiting.digest.startswith(digest):
            raise Refused(f"the plan that waits has the digest {waiting.digest}", hint=f"Look: irflow plan {incident}")
        decisions.decide(
            tx, found.id, person.operator, method=person.method, digest=waiting.digest, yes=not refuse, reason=reason
        )
        given = [one for one in fold(tx.events(found.id)).approvals if one.digest == waiting.digest]
        return waiting, 0 if refuse else max(0, waiting.people - len(given)), late

    agreed, missing, late = act(incident, (who, code), "approve", work)
    if json:
        dump({"phase": agreed.phase, "digest": agreed.digest, "approved": not refuse, "still_needed": missing})
        return
    say(f"{'refused' if refuse else 'approved'} {agreed.phase}, digest {agreed.digest}")
    for one in agreed.steps:
        if one.people and one.manual is None:
            say(f"  {one.runbook}.{one.step}{f' on {one.target}' if one.target else ''}")
    if late and not refuse:
        say(f"open since the short lease ran out, done anew: {', '.join(dict.fromkeys(late))}")
    if missing:
        say(f"{missing} more must agree before it runs: irflow approve {incident} --phase {agreed.phase}")


def retry(
    incident: Name,
    key: Annotated[
        str | None, typer.Argument(metavar="[STEP]", help="Only this step; all failed ones by default.")
    ] = None,
    who: As = None,
    code: Code = None,
) -> None:
    """Let failed steps run again. Example: irflow retry IR-2026-0001"""
    from irflow.core import decisions

    def work(tx: Transaction, found: Incident, person: Person) -> tuple[str, ...]:
        return decisions.retry(tx, found.id, person.operator, step=key, method=person.method)

    keys = act(incident, (who, code), "retry", work)
    say("runs again: " + ", ".join(keys))


def _switch(reason: str, who: str | None, code: str | None, *, on: bool) -> None:
    from irflow.adapters.wake import wake
    from irflow.core import decisions
    from irflow.wiring import open_store

    config = configuration()
    decided = decisions.halt if on else decisions.resume
    with open_store(config.settings) as store:
        person = identify(config, store, who, code, "halt" if on else "resume")
        store.transact(lambda tx: decided(tx, person.operator, reason, method=person.method))
    wake(config.settings.responder_socket)


def halt(reason: Annotated[str, typer.Option(help="Why.")] = "by hand", who: As = None, code: Code = None) -> None:
    """Stop all automation: no step begins until `irflow resume`. Example: irflow halt --reason 'false alarms'"""
    _switch(reason, who, code, on=True)
    say("halted: no step begins until `irflow resume`")


def resume(reason: Annotated[str, typer.Option(help="Why.")] = "by hand", who: As = None, code: Code = None) -> None:
    """Lift the halt. Example: irflow resume"""
    _switch(reason, who, code, on=False)
    say("resumed")
