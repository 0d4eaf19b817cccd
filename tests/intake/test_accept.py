"""Which alerts repeat another, join an incident or open one, and what they may change there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from irflow.core.engine import Engine
from irflow.core.journal import Draft, Kind, verify
from irflow.core.severity import Severity
from irflow.core.status import fold
from tests.fakes.world import host, world
from tests.intake.site import Site, alert_body


def row(reply: Any) -> dict[str, Any]:
    assert reply.status_code == 202, reply.text
    (only,) = reply.json()["alerts"]
    return dict(only)


def test_an_alert_that_fires_again_is_a_duplicate_of_the_first(at: Site) -> None:
    first = row(at.alert(fingerprint="f", title="one"))
    second = row(at.alert(fingerprint="f", title="two"))
    third = row(at.alert(fingerprint="f", title="three"))

    assert [second["duplicate_of"], third["duplicate_of"]] == [first["alert_id"]] * 2
    (incident,) = at.open()
    received = at.events(incident.id, Kind.ALERT_RECEIVED)
    assert [event.data["duplicate_of"] for event in received] == [None, first["alert_id"], first["alert_id"]]
    assert at.outbox() == [incident.id], "a repeat is no new work"


def test_a_fingerprint_belongs_to_its_source(at: Site) -> None:
    first = row(at.signed(alert_body(fingerprint="f", hosts=[]), source="detection"))
    second = row(at.signed(alert_body(fingerprint="f", hosts=[]), source="small"))
    assert second["duplicate_of"] is None
    assert second["incident_id"] != first["incident_id"]


def test_without_a_fingerprint_the_same_trouble_is_still_recognised(at: Site) -> None:
    first = row(at.alert())
    assert row(at.alert(occurred_at="2026-03-01T11:00:00Z"))["duplicate_of"] == first["alert_id"]
    assert row(at.alert(title="something else"))["duplicate_of"] is None


def test_another_alert_about_the_same_host_joins_its_incident(at: Site) -> None:
    first = row(at.alert(fingerprint="a"))
    second = row(at.alert(fingerprint="b", type="malware", hosts=["WEB-1.example.com"]))
    assert second == {"alert_id": second["alert_id"], "incident_id": first["incident_id"], "duplicate_of": None}
    assert len(at.open()) == 1


def test_an_alert_about_another_host_opens_its_own_incident(at: Site) -> None:
    at.alert(hosts=["web-1"])
    at.alert(hosts=["web-2"])
    assert [one.hosts for one in at.open()] == [("web-1",), ("web-2",)]


def test_new_hosts_and_addresses_of_an_alert_that_joins_are_added(at: Site) -> None:
    at.alert(fingerprint="a", addresses=["192.0.2.1"])
    at.alert(fingerprint="b", hosts=["web-1", "web-2"], addresses=["192.0.2.1", "192.0.2.2"])

    (incident,) = at.open()
    assert (incident.hosts, incident.addresses) == (("web-1", "web-2"), ("192.0.2.1", "192.0.2.2"))
    (added,) = at.events(incident.id, Kind.HOST_ADDED)
    assert (added.data["hosts"], added.data["addresses"]) == (["web-2"], ["192.0.2.2"])
    assert at.outbox() == [incident.id] * 2, "the responder must plan again"
    assert fold(at.store.events(incident.id)).incident.hosts == incident.hosts


def test_new_accounts_and_hashes_of_an_alert_that_joins_are_added_and_what_can_be_none_is_not(at: Site) -> None:
    at.alert(fingerprint="a", accounts=["deploy"])
    at.alert(fingerprint="b", accounts=["deploy", "backup", "-x", "$(id)", "a b"], hashes=["SHA256:" + "A" * 64, "x"])
    (incident,) = at.open()
    assert (incident.accounts, incident.hashes) == (("deploy", "backup"), ("a" * 64,))
    (added,) = at.events(incident.id, Kind.HOST_ADDED)
    assert (added.data["hosts"], added.data["accounts"], added.data["hashes"]) == ([], ["backup"], ["a" * 64])
    assert fold(at.store.events(incident.id)).incident.hashes == ("a" * 64,)


def test_names_of_secrets_become_targets_and_what_can_be_none_does_not(at: Site) -> None:
    at.alert(fingerprint="a", secrets=["shop-db", "Tr0ub4dor&3", "shop-db"])
    at.alert(fingerprint="b", secrets=["deploy-key"])
    (incident,) = at.open()
    assert incident.secrets == ("shop-db", "deploy-key")


def test_a_more_urgent_alert_raises_the_severity_and_tells_people(at: Site) -> None:
    at.alert(fingerprint="a", severity="high")
    at.alert(fingerprint="b", severity="critical")

    (incident,) = at.open()
    assert incident.severity is Severity.CRITICAL
    (raised,) = at.events(incident.id, Kind.ESCALATED)
    assert (raised.data["was"], raised.data["severity"]) == ("high", "critical")
    assert fold(at.store.events(incident.id)).incident.severity is Severity.CRITICAL
    assert at.outbox() == [incident.id] * 2
    (notice,) = [item.payload for item in at.store.pending() if item.kind == "notify"]
    assert notice["channels"] == ["email", "sms", "dashboard"]


def test_a_raised_severity_makes_the_plan_stale(tmp_path: Path) -> None:
    from irflow.core.phase import ensure_plan

    made = world(tmp_path, host("h1"))
    engine: Engine = made.engine
    incident = made.incident("h1", severity=Severity.HIGH)
    before = made.store.transact(lambda tx: ensure_plan(engine, tx, incident.id, "containment"))
    made.store.transact(
        lambda tx: tx.append(incident.id, Draft(Kind.ESCALATED, "irflow:web", {"phase": None, "severity": "critical"}))
    )
    after = made.store.transact(lambda tx: ensure_plan(engine, tx, incident.id, "containment"))
    made.store.close()

    def people(plan: Any) -> list[int]:
        return [step.people for step in plan.steps if step.step == "cut"]

    assert (people(before), people(after)) == ([1], [0])
    assert after.revision == before.revision + 1


def test_a_less_urgent_alert_adds_no_host_to_a_more_urgent_incident(at: Site) -> None:
    # Alone it waits for a person; through the critical incident web-2 would be cut without one.
    critical = row(at.alert(fingerprint="a"))
    high = row(at.alert(fingerprint="b", severity="high", hosts=["web-1", "web-2"]))

    assert high["incident_id"] != critical["incident_id"]
    assert [(one.severity.value, one.hosts) for one in at.open()] == [
        ("critical", ("web-1",)), ("high", ("web-1", "web-2"))
    ]  # fmt: skip


def test_a_less_urgent_alert_about_the_same_host_is_recorded_and_changes_nothing(at: Site) -> None:
    critical = row(at.alert(fingerprint="a"))
    assert row(at.alert(fingerprint="b", severity="high"))["incident_id"] == critical["incident_id"]
    assert (
        row(at.alert(fingerprint="c", type="disk_full", severity="critical"))["incident_id"] == critical["incident_id"]
    )
    (incident,) = at.open()
    assert not at.events(incident.id, Kind.ESCALATED)
    assert at.outbox() == [incident.id]


def test_noise_on_a_host_does_not_swallow_an_alert_that_must_be_acted_on(at: Site) -> None:
    noise = row(at.alert(type="disk_full", severity="low", fingerprint="same"))
    alarm = row(at.alert(fingerprint="same"))

    assert alarm["incident_id"] != noise["incident_id"]
    assert alarm["duplicate_of"] is None
    assert [one.playbook for one in at.open()] == [None, "system-compromise"]
    assert row(at.alert(fingerprint="same"))["duplicate_of"] == alarm["alert_id"]


def test_an_alert_for_another_playbook_opens_its_own_incident(at: Site) -> None:
    at.alert()
    at.alert(type="data_breach")
    assert [one.playbook for one in at.open()] == ["system-compromise", "data-breach"]


def test_an_unverified_alert_neither_joins_nor_repeats_a_verified_one(at: Site) -> None:
    body = alert_body(fingerprint="f", hosts=["web-1", "web-2"])
    verified = row(at.alert(fingerprint="f"))
    unverified = row(at.client.post("/webhooks/open", content=body))

    assert unverified["incident_id"] != verified["incident_id"]
    headers = {"authorization": f"Bearer {at.keys.values['token']}"}
    near = row(at.client.post("/webhooks/bearer", content=alert_body(fingerprint="g", hosts=["db-1"]), headers=headers))
    far = row(at.far_client.post("/webhooks/bearer", content=body.replace(b'"f"', b'"g"'), headers=headers))
    assert far["duplicate_of"] is None
    assert far["incident_id"] != near["incident_id"]


def test_drills_and_real_incidents_stay_apart(at: Site) -> None:
    at.signed(alert_body(), source="drill")
    at.alert()
    assert [one.drill for one in at.open()] == [True, False]


def test_a_resolved_alert_is_recorded_and_closes_nothing(at: Site) -> None:
    first = row(at.alert(fingerprint="f"))
    resolved = row(at.alert(fingerprint="f", status="resolved"))

    assert resolved["incident_id"] == first["incident_id"]
    (incident,) = at.open()
    (event,) = at.events(incident.id, Kind.ALERT_RESOLVED)
    assert event.data["resolves"] == first["alert_id"]
    again = row(at.alert(fingerprint="f", title="it is back"))
    assert (again["incident_id"], again["duplicate_of"]) == (incident.id, None)


def test_a_resolved_alert_of_no_open_incident_is_kept_without_one(at: Site) -> None:
    resolved = row(at.alert(fingerprint="f", status="resolved"))
    assert (resolved["incident_id"], resolved["duplicate_of"]) == (None, None)
    assert not at.open()
    assert not at.store.pending()


def test_what_fires_after_the_incident_was_closed_opens_another(at: Site) -> None:
    first = row(at.alert(fingerprint="f"))
    (incident,) = at.open()

    def close(tx: Any) -> None:
        tx.append(incident.id, Draft(Kind.INCIDENT_CLOSED, "operator:ann", {"reason": "done"}))
        tx.index_incident(incident, closed=True)

    at.store.transact(close)
    second = row(at.alert(fingerprint="f"))
    assert second["duplicate_of"] is None
    assert second["incident_id"] != first["incident_id"]


def test_alerts_of_one_request_with_one_type_and_severity_open_one_incident(at: Site) -> None:
    reply = at.alerts(
        {"hosts": ["web-1"]}, {"hosts": ["web-2"]}, {"hosts": ["nosuch"]}, {"hosts": [], "title": "no host"},
        {"hosts": ["web-3"], "severity": "high"}, {"hosts": ["db-1"], "type": "data_breach"},
    )  # fmt: skip
    together, high, breach = at.open()
    assert (together.hosts, together.unknown_hosts) == (("web-1", "web-2"), ("nosuch",))
    assert (high.hosts, breach.hosts) == (("web-3",), ("db-1",))
    rows = reply.json()["alerts"]
    assert [one["incident_id"] for one in rows] == [together.id] * 4 + [high.id, breach.id]
    assert at.outbox() == [together.id, high.id, breach.id]
    assert not at.events(together.id, Kind.HOST_ADDED), "all hosts are there from the start"


def test_alerts_of_one_request_about_an_open_incident_join_it_first(at: Site) -> None:
    first = row(at.alert(fingerprint="a", hosts=["web-2"]))
    reply = at.alerts({"hosts": ["web-1"], "fingerprint": "b"}, {"hosts": ["web-2"], "fingerprint": "c"})
    rows = reply.json()["alerts"]
    assert rows[1]["incident_id"] == first["incident_id"] != rows[0]["incident_id"]
    assert [one.hosts for one in at.open()] == [("web-2",), ("web-1",)]


def test_the_same_alert_twice_in_one_request_is_one_and_its_duplicate(at: Site) -> None:
    rows = at.alerts({"fingerprint": "f"}, {"fingerprint": "f"}).json()["alerts"]
    assert [one["duplicate_of"] for one in rows] == [None, rows[0]["alert_id"]]


def test_firing_and_resolved_in_one_request_is_told_in_that_order(at: Site) -> None:
    rows = at.alerts({"fingerprint": "f"}, {"fingerprint": "f", "status": "resolved"}).json()["alerts"]
    assert rows[0]["incident_id"] == rows[1]["incident_id"]
    (incident,) = at.open()
    assert len(at.events(incident.id, Kind.ALERT_RESOLVED)) == 1


def test_unknown_hosts_are_kept_and_never_targets(at: Site) -> None:
    at.alert(hosts=["web-1:9100", "nosuch", "-oProxyCommand=x", "web-1; reboot"])
    (incident,) = at.open()
    assert incident.hosts == ("web-1",)
    assert incident.unknown_hosts == ("nosuch", "-oProxyCommand=x", "web-1; reboot")


def test_a_type_without_a_playbook_opens_an_incident_all_the_same(at: Site) -> None:
    at.alert(type="odd_thing")
    (incident,) = at.open()
    assert (incident.type, incident.playbook) == ("odd_thing", None)


def test_an_incident_says_when_it_was_detected_and_by_what(at: Site) -> None:
    at.alert(occurred_at="2026-03-01T13:59:59.123456789+02:00", accounts=["bob"], labels={"n": 1, "b": True})
    (incident,) = at.open()
    assert incident.detected_at == at.clock.at, "the clocks run from the receipt"
    (event,) = at.events(incident.id, Kind.ALERT_RECEIVED)
    assert event.data["occurred_at"] == "2026-03-01T11:59:59.123456Z"
    assert event.data["labels"] == {"n": "1", "b": "true"}
    assert incident.accounts == ("bob",)
    assert "body" not in event.data


def test_every_chain_verifies(at: Site) -> None:
    at.alert(fingerprint="a", title="\ud800 \u0000 \u202e", severity="high")
    at.alert(fingerprint="b", hosts=["web-1", "web-2"], addresses=["2001:db8::1"])
    (incident,) = at.open()
    assert verify(incident.id, at.store.events(incident.id), ()).intact
