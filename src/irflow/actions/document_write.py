"""`document.write`: a document from the journal as it stands now."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from pydantic import Field

from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.record import scope
from irflow.core.status import fold


class WriteParams(Params):
    """template: name of a shipped or local template, `incident-report`. name: of the document; if none, as template."""

    template: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    name: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")


class DocumentWrite(Action[WriteParams]):
    """Fill a template with everything the journal says; a new version never replaces an old one."""

    name: ClassVar[str] = "document.write"
    summary: ClassVar[str] = "Write a document from the journal"
    Params: ClassVar[type[Any]] = WriteParams
    touches_host: ClassVar[bool] = False
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "documents are kept; write a new version"

    def observe(self, params: WriteParams, context: Context) -> dict[str, Json]:
        """The head of the journal that the document will speak of."""
        events = context.ports.store.events(context.incident.id)
        head = events[-1] if events else None  # in a dry run the incident may not be on record yet
        return {"seq": head.seq if head else 0, "head": head.hash if head else ""}

    def plan(self, params: WriteParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Always one."""
        data: dict[str, Json] = {"template": params.template, "name": params.name or params.template}
        return (Change(f"write the {data['name']}", data),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Render, keep, and put the document's hash into the chain."""
        ports, incident = context.ports, context.incident.id
        events = ports.store.events(incident)
        text = ports.documents.render(change.data["template"], scope(fold(events), events, ports.clock.now()))
        stored = ports.document_store.put(incident, change.data["name"], text)
        data: dict[str, Json] = {
            "name": change.data["name"], "path": stored.path, "sha256": stored.sha256,
            "template": change.data["template"], "up_to": events[-1].seq,
        }  # fmt: skip
        draft = Draft(Kind.DOCUMENT_WRITTEN, context.actor, data, context.step.key, epoch=context.epoch)
        ports.store.transact(lambda tx: tx.append(incident, draft))
        return {**data, "rendered_sha256": hashlib.sha256(text.encode()).hexdigest()}

    def verify(
        self, params: WriteParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """What was kept is what was rendered."""
        one = applied[0]
        same = one["sha256"] == one["rendered_sha256"]
        facts = {key: one[key] for key in ("name", "path", "sha256", "template", "up_to")}
        return Proof((Check("the document is kept as rendered", same, one["rendered_sha256"], one["sha256"]),), facts)
