"""Debian's Alertmanager as a real client of the web process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irflow.core.alert import Trust
from irflow.core.journal import Event, Kind
from tests.intake.site import Site, site
from tests.services.alertmanager import Alertmanager, alertmanager
from tests.services.web import serving


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as running:
        yield running


@pytest.fixture
def sender(at: Site, tmp_path: Path) -> Iterator[Alertmanager]:
    token = tmp_path / "token"
    token.write_text(at.keys.values["token"])
    folder = tmp_path / "alertmanager"
    folder.mkdir()
    with serving(at.app) as port:
        with alertmanager(folder, f"http://127.0.0.1:{port}/webhooks/alertmanager", token) as running:
            yield running


def until(happened: Callable[[], bool], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def labels(host: str, **more: str) -> dict[str, str]:
    return {"alertname": "RootkitFound", "severity": "critical", "instance": f"{host}:9100", **more}


def received(at: Site, kind: Kind = Kind.ALERT_RECEIVED) -> list[Event]:
    return [event for incident in at.open() for event in at.events(incident.id, kind)]


def test_an_alert_opens_exactly_one_incident_and_its_end_is_recorded(at: Site, sender: Alertmanager) -> None:
    sender.fire(labels("web-1"), annotations={"summary": "A rootkit on web-1", "description": "lkm hidden"})
    until(lambda: bool(at.open()), "an incident")

    (incident,) = at.open()
    assert (incident.type, incident.severity.value, incident.hosts) == ("system_compromise", "critical", ("web-1",))
    assert (incident.title, incident.playbook) == ("A rootkit on web-1", "system-compromise")
    assert incident.trust is Trust.VERIFIED, "a bearer token over loopback"
    assert at.outbox() == [incident.id]

    sender.resolve(labels("web-1"))
    until(lambda: bool(received(at, Kind.ALERT_RESOLVED)), "the resolved alert")
    assert [one.id for one in at.open()] == [incident.id], "a resolved alert closes nothing"
    (alert,) = received(at)
    (resolved,) = received(at, Kind.ALERT_RESOLVED)
    assert resolved.data["resolves"] == alert.data["id"]
    assert resolved.data["fingerprint"] == alert.data["fingerprint"]


def test_alerts_of_one_group_open_one_incident_and_a_later_one_opens_its_own(at: Site, sender: Alertmanager) -> None:
    sender.fire(labels("web-1"), labels("web-2"), labels("nosuch"))
    until(lambda: len(received(at)) == 3, "three alerts")
    (together,) = at.open()
    assert set(together.hosts) == {"web-1", "web-2"}
    assert together.unknown_hosts == ("nosuch:9100",)

    sender.fire(labels("db-1"))  # Alertmanager sends the whole group again
    until(lambda: len(received(at)) == 7, "all four again")
    first, second = at.open()
    assert (first.id, second.hosts) == (together.id, ("db-1",))
    duplicates = [event for event in at.events(first.id, Kind.ALERT_RECEIVED) if event.data["duplicate_of"]]
    assert len(duplicates) == 3
    assert at.outbox() == [first.id, second.id]


def test_what_was_fired_while_irflow_could_not_store_it_arrives_later(
    at: Site, sender: Alertmanager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from irflow.core.errors import JournalError

    refused = []

    def broken(work: object) -> None:
        refused.append(work)
        raise JournalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(at.store, "transact", broken)
        sender.fire(labels("web-1"))
        until(lambda: bool(refused), "a refused alert")
    until(lambda: bool(at.open()), "Alertmanager to try again")
    assert len(at.open()) == 1
