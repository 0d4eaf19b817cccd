"""Reminders: who was asked hears of it again, and the next role too, by the channels of the incident's severity."""

from __future__ import annotations

from irflow.core.briefing import span
from irflow.core.engine import Engine
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.ports import Transaction
from irflow.core.reminders import Reminder, due_reminders
from irflow.core.severity import CHANNELS
from irflow.core.status import IncidentStatus, fold


def remind(engine: Engine, incident: str) -> None:
    """Tell what is due, once each; the journal says that it was told."""
    if not due_reminders(engine.status(incident), engine.ports.clock.now()):
        return

    def work(tx: Transaction) -> None:
        status = fold(tx.events(incident))
        for one in due_reminders(status, engine.ports.clock.now()):
            _tell(engine, tx, status, one)

    engine.ports.store.transact(work)


def _tell(engine: Engine, tx: Transaction, status: IncidentStatus, one: Reminder) -> None:
    asked, number = one.asked, status.incident.number
    roles = " and ".join(one.roles).replace("_", " ")
    waited = span((engine.ports.clock.now() - asked.asked_at).total_seconds())
    data: dict[str, Json] = {
        "question": asked.id, "share": one.share, "role": roles, "title": asked.title, "phase": asked.phase,
        "window_s": one.window.total_seconds(),
    }  # fmt: skip
    tx.append(status.incident.id, Draft(Kind.PERSON_REMINDED, engine.actor, data))
    reason = f"still waiting for {' or '.join(asked.roles)} since {waited}: {asked.title}"
    if one.escalates:
        escalated: dict[str, Json] = {"reason": f"{reason}; told {roles}", "phase": None}
        tx.append(status.incident.id, Draft(Kind.ESCALATED, engine.actor, escalated))
    title = f"{number}: {reason}"
    body = f"{title}\nTo {roles}: irflow step {number}, or irflow approve {number}"
    channels = list(CHANNELS[status.incident.severity])
    tx.enqueue("notify", {"incident": status.incident.id, "channels": channels, "title": title, "body": body})
