"""The status of an incident: a fold of its events. Nothing here is stored."""

from __future__ import annotations

from collections.abc import Iterable

from irflow.core.folds import FOLDS, fruit, ignore
from irflow.core.incident import Incident
from irflow.core.journal import Event, Kind
from irflow.core.states import (
    FINISHED,
    SETTLED,
    TAKEN_BACK,
    TROUBLED,
    IncidentStatus,
    Lease,
    PhaseStatus,
    State,
    StepStatus,
)

__all__ = [
    "FINISHED",
    "SETTLED",
    "TAKEN_BACK",
    "TROUBLED",
    "IncidentStatus",
    "Lease",
    "PhaseStatus",
    "State",
    "StepStatus",
    "fold",
]


def fold(events: Iterable[Event], status: IncidentStatus | None = None) -> IncidentStatus:
    """Replay events in order; with `status`, go on from there (its last_seq).

    Raises ValueError when the first event does not open an incident.
    """
    for event in events:
        if status is None:
            if event.kind != Kind.INCIDENT_OPENED:
                raise ValueError(f"the journal of {event.incident} starts with {event.kind}")
            status = IncidentStatus(Incident.model_validate(event.data["incident"]))
        FOLDS.get(event.kind, ignore)(status, event)
        if event.step:
            fruit(status, event.step)
        if event.data.get("form"):
            status.forms.add(event.data["form"])
        status.last_seq = event.seq
    if status is None:
        raise ValueError("an empty journal has no status")
    return status
