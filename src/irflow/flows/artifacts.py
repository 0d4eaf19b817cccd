"""What a phase leaves in Prefect for people: a page and a table of its steps."""

from __future__ import annotations

import logging
import re

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from irflow.core.incident import Incident
from irflow.core.phase import PhaseResult
from irflow.core.plan import Plan
from irflow.flows.executor import target_of
from irflow.flows.plain import cell, markdown, plain

log = logging.getLogger(__name__)

MOST_ROWS = 500


def artifact_key(incident: Incident, phase: str) -> str:
    """Prefect's keys are lowercase letters, digits and dashes; a later run of a phase is a new version of the same."""
    return re.sub(r"[^a-z0-9]+", "-", f"{incident.number} {phase}".lower()).strip("-")


def page(incident: Incident, plan: Plan | None, result: PhaseResult, url: str) -> str:
    """The page, in Markdown. url: of irflow's own page about the incident."""
    lines = [
        f"# {markdown(incident.number)} {markdown(result.phase)}: {markdown(result.state)}",
        "",
        f"{markdown(incident.title)}",
        "",
        f"- severity: {incident.severity.value}",
        f"- hosts: {markdown(', '.join(incident.hosts)) or 'none'}",
        f"- plan: `{plan.digest if plan else 'none'}`",
        f"- steps: {len(result.steps)}, of which open: {len(result.open_items)}",
        f"- all of it, live: [irflow's page]({url})",
    ]
    if result.open_items:
        lines += ["", "## Open", "", *(f"- {markdown(item)}" for item in result.open_items[:MOST_ROWS])]
    lines += ["", f"The journal is the record: `irflow incidents show {plain(incident.number)}`"]
    return "\n".join(lines) + "\n"


def rows(plan: Plan | None, result: PhaseResult) -> list[dict[str, str]]:
    """The table: one row per step, in the order of the plan."""
    steps = plan.steps if plan else ()
    found = []
    for step in steps[:MOST_ROWS]:
        known = result.steps.get(step.key)
        found.append(
            {
                "step": cell(step.title),
                "target": cell(target_of(step)),
                "state": known.state.value if known else "pending",
                "detail": cell(known.detail) if known else "",
            }
        )
    return found


def publish(incident: Incident, plan: Plan | None, result: PhaseResult, url: str) -> None:
    """Leave both artifacts. Prefect being away is told in the log and otherwise ignored: they are a convenience."""
    key = artifact_key(incident, result.phase)
    try:
        create_markdown_artifact(
            page(incident, plan, result, url), key=key, description=f"{incident.number} {result.phase}"
        )
        create_table_artifact(rows(plan, result), key=f"{key}-steps", description="Steps of the plan")
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises, the phase has its own record
        log.warning("no artifacts for %s %s: %s", incident.number, result.phase, type(error).__name__)
