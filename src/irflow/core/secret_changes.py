"""What the journal has of rotations: transitions and versions, never a value. It decides nothing about them."""

from __future__ import annotations

from irflow.core.journal import Draft, Kind
from irflow.core.model import Json

_WRITTEN = frozenset({"staged", "promoted", "given_up", "ended", "cleared"})
"""The transitions that are written to a document; what lies between can be done twice."""


def secret_change(
    name: str, transition: str, version: int, actor: str, *, step: str = "", epoch: int = 0
) -> Draft | None:
    """The event for a transition of a secret; None for one that no document shows. version: of its document."""
    if transition not in _WRITTEN:
        return None
    data: dict[str, Json] = {"name": name, "transition": transition, "version": version}
    return Draft(Kind.SECRET_CHANGED, actor, data, step, epoch=epoch)
