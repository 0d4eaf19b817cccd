"""A store that only takes what an action appends to the journal by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from irflow.core.journal import Draft, Kind
from irflow.core.model import Json


@dataclass
class AppendOnly:
    """core.ports.Store and its transaction in one, as far as a custody entry needs them."""

    drafts: list[Draft] = field(default_factory=list)

    def transact(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def append(self, incident: str, *drafts: Draft, claim: Any = None) -> tuple[()]:
        assert incident
        self.drafts += drafts
        return ()

    @property
    def custody(self) -> list[dict[str, Json]]:
        """The custody entries, in order."""
        return [one.data for one in self.drafts if one.kind is Kind.EVIDENCE_TAKEN]
