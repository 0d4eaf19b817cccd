"""What a dry run prints: each step, its target, and what it would change there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from irflow.cli.output import say, short, table

if TYPE_CHECKING:
    from irflow.core.incident import Incident
    from irflow.core.plan import Plan
    from irflow.core.preview import Preview
    from irflow.wiring import Runtime


def looked_at(wired: Runtime, incident: Incident, plans: tuple[Plan, ...]) -> list[tuple[Plan, tuple[Preview, ...]]]:
    """Each plan with what its steps would change now. incident: may be one that is not in the journal yet."""
    from irflow.core.preview import preview
    from irflow.core.status import IncidentStatus, fold

    events = wired.store.events(incident.id) if incident.number else []
    status = fold(events) if events else IncidentStatus(incident)
    return [(plan, preview(wired.engine, plan, status)) for plan in plans]


def told(plan: Plan, previews: tuple[Preview, ...]) -> dict[str, Any]:
    """A plan and its dry run as JSON."""
    found = [
        {
            "key": one.key,
            "target": one.target,
            "would": one.would.value,
            "changes": [change.to_data() for change in one.changes],
            "detail": one.detail,
        }
        for one in previews
    ]
    return {**plan.model_dump(mode="json"), "digest": plan.digest, "dry_run": found}


def show(plan: Plan, previews: tuple[Preview, ...]) -> None:
    """The same for people."""
    table(
        f"{plan.phase}, revision {plan.revision}, digest {plan.digest}: what it would change now",
        ("step", "target", "would", ""),
        [
            (
                one.key.partition("/")[2],
                one.target or "-",
                one.would.value,
                "; ".join(change.summary for change in one.changes) or short(one.detail, 200),
            )
            for one in previews
        ],
    )
    say("nothing was changed")
    say("")


def unknown(dry_runs: list[tuple[Plan, tuple[Preview, ...]]]) -> bool:
    """Whether a target could not be looked at."""
    from irflow.core.preview import Would

    return any(one.would is Would.UNKNOWN for _, previews in dry_runs for one in previews)
