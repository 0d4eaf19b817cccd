"""What a phase leaves in the Prefect UI: a summary and a table of its steps."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from irflow.adapters.templates.markdown import plain
from irflow.core.model import Json
from irflow.core.phase import PhaseResult
from irflow.core.status import IncidentStatus

MOST_TEXT = 300


def leave_artifacts(number: str, status: IncidentStatus, result: PhaseResult) -> None:
    """Leave both artifacts. Every text is escaped: titles and details can hold what an attacker wrote."""
    key = f"{number}-{result.phase}".lower().replace("_", "-")
    incident = status.incident
    lines = [
        f"## {plain(number)} {result.phase}",
        f"{incident.severity.value} {plain(incident.type)}: {plain(incident.title[:MOST_TEXT])}",
        f"State: **{result.state}**",
        "",
        *(f"- open: {plain(line[:MOST_TEXT])}" for line in result.open_items),
    ]
    create_markdown_artifact(key=f"{key}-summary", markdown="\n\n".join(lines), description=f"{number} {result.phase}")
    rows: list[dict[str, Json]] = [
        {"step": key_, "state": one.state.value, "detail": one.detail[:MOST_TEXT]} for key_, one in result.steps.items()
    ]
    create_table_artifact(key=f"{key}-steps", table=rows, description=f"Steps of {number} {result.phase}")
