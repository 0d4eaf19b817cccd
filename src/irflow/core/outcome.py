"""How a step stands after a try."""

from __future__ import annotations

from dataclasses import dataclass, field

from irflow.core.model import Json
from irflow.core.status import FINISHED, State


@dataclass(frozen=True)
class StepResult:
    """How a step stands after a try. detail: one line for people."""

    key: str
    state: State
    detail: str = ""
    facts: dict[str, Json] = field(default_factory=dict)

    @property
    def passable(self) -> bool:
        """Whether steps that only need this one to be over may go on."""
        return self.state in FINISHED
