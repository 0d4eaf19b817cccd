"""What a sender is answered, and that nothing but an authentic and understood message changes anything."""

from __future__ import annotations

import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from irflow.core.errors import JournalError
from irflow.core.journal import Kind
from irflow.intake.source import Source
from tests.intake.site import Site, alert_body, new_signing_key, sign, site


def nothing_happened(at: Site) -> bool:
    return not at.open() and not at.store.pending() and not at.wakes


def test_a_signed_alert_is_accepted_and_everything_is_committed_before_the_answer(at: Site) -> None:
    reply = at.alert()

    assert reply.status_code == 202
    (row,) = reply.json()["alerts"]
    (incident,) = at.open()
    assert row == {"alert_id": row["alert_id"], "incident_id": incident.id, "duplicate_of": None}
    assert incident.number == "IR-2026-0001"
    assert incident.hosts == ("web-1",)
    assert at.outbox() == [incident.id]
    assert at.wakes, "the responder is woken after the commit"
    received = at.events(incident.id, Kind.ALERT_RECEIVED)
    assert [event.data["id"] for event in received] == [row["alert_id"]]
    assert received[0].actor == "irflow:web"


def test_the_standards_own_test_vector_is_authentic(tmp_path: Path) -> None:
    body = b'{"test": 2432232314}'
    source = Source.model_validate({"name": "vector", "auth": "hmac", "key": "file:vector"})
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip
    keys = {"vector": "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
    with site(tmp_path, [source], keys) as at:
        at.clock.at = datetime.fromtimestamp(1614265330, UTC)
        assert at.client.post("/webhooks/vector", content=body, headers=headers).status_code == 422, (
            "authentic, no alert"
        )
        assert at.client.post("/webhooks/vector", content=body + b" ", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,a,b v2,AAAA ,,, v1,%%%"},
        {"webhook-signature": "v1a,AAAA"},
        {"webhook-id": ""},
        {"webhook-id": "another"},
        {"webhook-id": "x" * 300},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "1e9"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "NaN"},
        {"webhook-timestamp": "١٢٣"},
    ],
)
def test_a_wrong_or_missing_signature_is_refused(at: Site, headers: dict[str, str]) -> None:
    encoded: Any = {key: value.encode() for key, value in headers.items()}
    assert at.signed(alert_body(), headers=encoded).status_code == 401
    assert nothing_happened(at)


def test_a_signature_by_another_key_is_refused(at: Site) -> None:
    at.keys.values["stranger"] = new_signing_key()
    assert at.signed(alert_body(), key="stranger").status_code == 401
    assert nothing_happened(at)


def test_a_changed_body_is_refused(at: Site) -> None:
    headers = sign(at.keys.values["detection"], alert_body(), at.clock.at)
    changed = alert_body(hosts=["db-1"])
    assert at.client.post("/webhooks/detection", content=changed, headers=headers).status_code == 401
    assert nothing_happened(at)


def test_a_refusal_does_not_say_what_was_wrong(at: Site) -> None:
    stale = at.signed(alert_body(), sent_s=-1000)
    wrong = at.signed(alert_body(), headers={"webhook-signature": "v1,AAAA"})
    assert stale.content == wrong.content


@pytest.mark.parametrize(("sent_s", "status"), [(-301, 401), (-300, 202), (300, 202), (301, 401)])
def test_a_message_is_fresh_for_five_minutes_either_way(at: Site, sent_s: float, status: int) -> None:
    assert at.signed(alert_body(), sent_s=sent_s).status_code == status


def test_several_signatures_are_allowed_and_one_must_fit(at: Site) -> None:
    made = sign(at.keys.values["detection"], alert_body(), at.clock.at, "m1")
    several = f"v1a,AAAA v1,AAAA {made['webhook-signature']}"
    assert at.signed(alert_body(), message_id="m1", headers={"webhook-signature": several}).status_code == 202


def test_while_a_key_is_changed_both_are_good(at: Site) -> None:
    assert at.signed(alert_body(), key="detection").status_code == 202
    assert at.signed(alert_body(), key="next").status_code == 202


def test_a_repeat_gives_the_same_bytes_and_does_nothing_more(at: Site) -> None:
    body = alert_body()
    first = at.signed(body, message_id="m1")
    at.clock.forward(60)
    again = at.signed(body, message_id="m1")

    assert (again.status_code, again.content) == (202, first.content)
    (incident,) = at.open()
    assert len(at.events(incident.id, Kind.ALERT_RECEIVED)) == 1
    assert at.outbox() == [incident.id]
    assert len(at.wakes) == 1


def test_the_same_request_at_the_same_time_is_one_message(at: Site) -> None:
    body = alert_body()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: at.signed(body, message_id="m1"), range(16)))
    assert {(one.status_code, one.content) for one in replies} == {(202, replies[0].content)}
    assert len(at.open()) == 1


def test_an_id_with_another_body_is_a_conflict(at: Site) -> None:
    at.signed(alert_body(), message_id="m1")
    assert at.signed(alert_body(hosts=["web-2"]), message_id="m1").status_code == 409
    assert [one.hosts for one in at.open()] == [("web-1",)]


def test_the_same_id_from_two_sources_are_two_messages(at: Site) -> None:
    assert at.signed(alert_body(), message_id="m1").status_code == 202
    assert at.signed(alert_body(hosts=["web-2"]), message_id="m1", source="small").status_code == 202


def test_what_is_not_understood_is_kept_and_the_repeat_is_answered_alike(at: Site) -> None:
    first = at.signed(b"not json", message_id="m1")
    again = at.signed(b"not json", message_id="m1")

    assert (first.status_code, again.status_code) == (422, 422)
    assert first.content == again.content
    kept = at.store.read(lambda tx: tx.message("detection", "m1"))
    assert kept is not None
    assert (kept.outcome, kept.body) == ("quarantined", b"not json")
    assert at.signed(alert_body(), message_id="m1").status_code == 409
    assert nothing_happened(at)


def test_an_announced_length_over_the_limit_is_refused_unread(at: Site) -> None:
    read = 0

    def parts() -> Any:
        nonlocal read
        read += 1
        yield b"x" * 100

    headers = {"content-length": "1001"}
    assert at.client.post("/webhooks/small", content=parts(), headers=headers).status_code == 413
    assert at.signed(b" " * 1001, source="small").status_code == 413
    assert at.signed(alert_body(title="x" * 500), source="small").status_code == 202
    assert nothing_else_than(at, 1)


def test_an_unannounced_length_over_the_limit_is_refused(at: Site) -> None:
    def parts() -> Any:
        for _ in range(50):
            yield b"x" * 100

    assert at.client.post("/webhooks/small", content=parts()).status_code == 413
    assert nothing_happened(at)


def nothing_else_than(at: Site, incidents: int) -> bool:
    return len(at.open()) == incidents


def test_over_the_limit_a_source_is_told_when_to_come_back(at: Site) -> None:
    replies = [at.signed(alert_body(), source="slow") for _ in range(4)]
    assert [one.status_code for one in replies] == [202, 202, 202, 429]
    assert replies[3].headers["retry-after"] == "20"
    at.clock.forward(20)
    assert at.signed(alert_body(), source="slow").status_code == 202
    assert at.signed(alert_body()).status_code == 202, "other sources are not concerned"


def test_a_stranger_cannot_use_up_a_sources_share(at: Site) -> None:
    for _ in range(10):
        assert at.signed(b"{}", source="slow", headers={"webhook-signature": "v1,AAAA"}).status_code == 401
    assert at.signed(alert_body(), source="slow").status_code == 202


def test_an_unknown_source_looks_like_any_unknown_path(at: Site) -> None:
    unknown = at.signed(alert_body(), source="nosuch")
    other = at.client.post("/nosuch")
    assert unknown.status_code == other.status_code == 404
    assert unknown.json() == other.json()


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic dXNlcjpwdw==", "Bearer \xff"])
def test_a_wrong_or_missing_token_is_refused_before_the_body_is_read(at: Site, value: str) -> None:
    def parts() -> Any:
        for _ in range(100):
            yield b"x" * 100_000

    for source in ("bearer", "alertmanager"):
        raw: Any = {"authorization": value.encode("latin-1")}
        assert at.client.post(f"/webhooks/{source}", content=parts(), headers=raw).status_code == 401
    assert nothing_happened(at)


def test_a_token_proves_the_sender_from_this_machine_or_over_tls_only(at: Site) -> None:
    headers = {"authorization": f"bearer {at.keys.values['token']}"}
    near = at.client.post("/webhooks/bearer", content=alert_body(hosts=["web-1"]), headers=headers)
    far = at.far_client.post("/webhooks/bearer", content=alert_body(hosts=["web-2"]), headers=headers)
    tls = at.far_client.post("https://192.0.2.1/webhooks/bearer", content=alert_body(hosts=["web-3"]), headers=headers)

    assert (near.status_code, far.status_code, tls.status_code) == (202, 202, 202)
    assert {one.hosts[0]: one.trust.value for one in at.open()} == {
        "web-1": "verified", "web-2": "unverified", "web-3": "verified"
    }  # fmt: skip


def test_a_source_without_auth_opens_an_unverified_incident(at: Site) -> None:
    assert at.client.post("/webhooks/open", content=alert_body()).status_code == 202
    assert at.far_client.post("/webhooks/open", content=alert_body(hosts=["web-2"])).status_code == 202
    assert [one.trust.value for one in at.open()] == ["unverified", "unverified"]


def test_a_sender_without_ids_may_repeat_itself(at: Site) -> None:
    first = at.client.post("/webhooks/open", content=alert_body())
    again = at.client.post("/webhooks/open", content=alert_body())
    assert first.content == again.content
    other = at.client.post("/webhooks/open", content=alert_body(title="another"))
    assert other.json()["alerts"][0]["alert_id"] != first.json()["alerts"][0]["alert_id"]


def test_a_store_that_fails_is_told_and_a_repeat_gets_through(at: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(work: object) -> None:
        raise JournalError("the disk is full")

    body = alert_body()
    with monkeypatch.context() as patch:
        patch.setattr(at.store, "transact", broken)
        reply = at.signed(body, message_id="m1")
        assert reply.status_code == 503
        assert "disk" not in reply.text
    assert nothing_happened(at)
    assert at.signed(body, message_id="m1").status_code == 202


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_nothing_but_post_is_taken(at: Site, method: str) -> None:
    assert at.client.request(method, "/webhooks/detection").status_code == 405
    assert nothing_happened(at)


def test_no_key_or_token_is_ever_shown(at: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = secrets.token_urlsafe(24)
    replies = [
        at.alert(),
        at.signed(alert_body(), headers={"webhook-signature": "v1,AAAA"}),
        at.client.post("/webhooks/bearer", content=b"{", headers={"authorization": f"Bearer {token}"}),
        at.client.get("/"),
    ]
    shown = caplog.text + "".join(one.text + json.dumps(dict(one.headers)) for one in replies)
    for value in (*at.keys.values.values(), token):
        assert value not in shown
        assert value.removeprefix("whsec_") not in shown
