"""What irflow's page is made from. It holds no SSH key and no Vault token, and opens no reference to a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from irflow.core.action import Registry
from irflow.core.incident import Incident
from irflow.core.model import Json
from irflow.core.ports import Clock, Store
from irflow.web.door import Door
from irflow.web.statuses import Statuses

_NUMBER = re.compile(r"(?i)IR-\d{4}-\d{4,9}|[0-9A-HJKMNP-TV-Z]{26}", re.ASCII)
READERS = 4
"""Threads that make pages; a flood of alerts has its own."""


class Renderer(Protocol):
    """Fills the page's templates; every value is text."""

    def render(self, template: str, scope: Mapping[str, Json]) -> str:
        """A whole page. Raises ConfigurationError for a mistake in the template."""
        ...


class DocumentReader(Protocol):
    """Gives a document again."""

    def get(self, path: str) -> str:
        """Its text. path: as the journal names it. Raises IrflowError when it is missing."""
        ...


@dataclass(frozen=True)
class Board:
    """What the pages work with. wake: pokes the responder, never fails. prefect_ui: the address of Prefect's pages."""

    store: Store
    clock: Clock
    door: Door
    renderer: Renderer
    documents: DocumentReader
    actions: Registry
    prefect_ui: Callable[[], str]
    wake: Callable[[], None]
    statuses: Statuses = field(init=False)
    pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "statuses", Statuses(self.store))
        object.__setattr__(self, "pool", ThreadPoolExecutor(READERS, thread_name_prefix="page"))

    def find(self, number: str) -> Incident | None:
        """The incident that an address names."""
        return self.store.find_incident(number) if _NUMBER.fullmatch(number) else None
