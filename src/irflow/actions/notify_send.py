"""`notify.send`: tell people, by the channels of the severity, through the outbox."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.ports import Transaction
from irflow.core.severity import CHANNELS, Severity


class SendParams(Params):
    """title, body: plain text. severity: chooses the channels; the incident's if none is given.

    roles: whom it concerns; named in the message, the channels decide who gets it.
    """

    title: str
    body: str
    severity: Severity | None = None
    roles: tuple[str, ...] = ()


class NotifySend(Action[SendParams]):
    """Promise a message in one transaction; it leaves later, so that no mail server ever delays a cut."""

    name: ClassVar[str] = "notify.send"
    summary: ClassVar[str] = "Tell people, by the channels of the severity"
    Params: ClassVar[type[Any]] = SendParams
    touches_host: ClassVar[bool] = False
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "what people have read stays read"

    def observe(self, params: SendParams, context: Context) -> dict[str, Json]:
        """The channels, and whether this step's message was promised already (by a process that then died)."""
        severity = params.severity or context.incident.severity
        queued = any(
            event.kind == Kind.NOTIFICATION_QUEUED and event.step == context.step.key
            for event in context.ports.store.events(context.incident.id)
        )
        return {"severity": severity.value, "channels": list(CHANNELS[severity]), "queued": queued}

    def plan(self, params: SendParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing when the message was promised already."""
        if seen["queued"]:
            return ()
        message: dict[str, Json] = {
            "title": params.title, "body": params.body, "channels": seen["channels"], "roles": list(params.roles),
        }  # fmt: skip
        return (Change(f"tell people by {', '.join(seen['channels'])}: {params.title}", message),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Journal and outbox together: promised once, sent at least once."""
        channels, title, roles = change.data["channels"], change.data["title"], change.data["roles"]
        body = change.data["body"] + (f"\n\nFor: {', '.join(roles)}" if roles else "")

        def work(tx: Transaction) -> str:
            data: dict[str, Json] = {"title": title, "channels": channels, "roles": roles}
            tx.append(
                context.incident.id,
                Draft(Kind.NOTIFICATION_QUEUED, context.actor, data, context.step.key, epoch=context.epoch),
            )
            payload = {"incident": context.incident.id, "channels": channels, "title": title, "body": body}
            return tx.enqueue("notify", payload)

        return {"item": context.ports.store.transact(work)}

    def verify(
        self, params: SendParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Promised is what this step claims; `notification.sent` follows in the journal."""
        queued = bool(applied) or bool(seen["queued"])
        facts: dict[str, Json] = {"channels": seen["channels"], "roles": list(params.roles)}
        return Proof((Check("the message is in the outbox", queued, "", ", ".join(seen["channels"])),), facts)
