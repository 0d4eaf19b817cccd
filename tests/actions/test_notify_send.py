"""A message is promised together with the journal's word for it, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.actions.notify_send import NotifySend, SendParams
from irflow.core.action import Context
from irflow.core.journal import Kind
from irflow.core.ports import Store
from irflow.core.severity import Severity
from tests.fakes.remote import context
from tests.fakes.world import World, world

SEND = NotifySend()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[World]:
    one = world(tmp_path)
    yield one
    one.store.close()


def about(made: World, severity: Severity = Severity.HIGH) -> Context:
    return context(store=made.store, incident=made.incident(severity=severity))


def send(about: Context, **params: object) -> None:
    checked = SendParams.model_validate({"title": "t", "body": "b", **params})
    seen = SEND.observe(checked, about)
    applied = tuple(SEND.apply(change, about) for change in SEND.plan(checked, seen))
    assert SEND.verify(checked, seen, applied, about).passed


def promised(store: Store) -> list[dict[str, object]]:
    return [item.payload for item in store.take(["notify"], "test", lease_s=1)]


@pytest.mark.parametrize(
    ("incident", "given", "channels"),
    [
        (Severity.CRITICAL, None, ["email", "sms", "dashboard"]),
        (Severity.HIGH, None, ["email", "dashboard"]),
        (Severity.MEDIUM, None, ["dashboard"]),
        (Severity.LOW, None, ["log"]),
        (Severity.LOW, "critical", ["email", "sms", "dashboard"]),
    ],
)
def test_the_severity_chooses_the_channels(
    made: World, incident: Severity, given: str | None, channels: list[str]
) -> None:
    send(about(made, incident), severity=given)
    assert promised(made.store)[0]["channels"] == channels


def test_journal_and_outbox_say_the_same(made: World) -> None:
    one = about(made)
    send(one, title="hello", roles=["incident_commander", "communications"])
    (event,) = [event for event in made.store.events(one.incident.id) if event.kind == Kind.NOTIFICATION_QUEUED]
    assert (event.data["title"], event.data["channels"]) == ("hello", ["email", "dashboard"])
    (payload,) = promised(made.store)
    assert payload == {
        "incident": one.incident.id, "channels": ["email", "dashboard"], "title": "hello",
        "body": "b\n\nFor: incident_commander, communications",
    }  # fmt: skip


def test_a_second_run_of_the_step_promises_nothing_more(made: World) -> None:
    one = about(made)
    send(one)
    send(one)
    assert len(promised(made.store)) == 1
