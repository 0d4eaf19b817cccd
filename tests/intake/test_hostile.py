"""Hostile alerts change nothing they should not, and never break the intake."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irflow.core.incident import Incident
from irflow.core.journal import Kind, verify
from tests.intake.hostile import TEXTS, alert, bodies
from tests.intake.site import INVENTORY, Site, sign, site

PWNED = Path("/tmp/irflow-pwned")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all generated requests: what one leaves behind, the next meets."""
    with site(tmp_path_factory.mktemp("hostile")) as running:
        yield running


def only_known_targets(incident: Incident) -> bool:
    plain = all(one.isprintable() and "/0" not in one for one in incident.addresses)
    return set(incident.hosts) <= set(INVENTORY.hosts) and plain


def shows_itself(value: Any) -> bool:
    """Whether no text in it holds a character that a terminal, mail or page would obey."""
    if isinstance(value, dict):
        return all(shows_itself(key) and shows_itself(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(shows_itself, value))
    if not isinstance(value, str):
        return True
    return not [c for c in value if c not in "\n\t\u200c\u200d" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl")]


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_kept_as_text_and_aims_at_nothing_new(at: Site, name: str) -> None:
    body = json.dumps(alert(TEXTS[name])).encode()
    reply = at.signed(body, message_id="m")

    assert reply.status_code in (202, 422)
    message = at.store.read(lambda tx: tx.message("detection", "m"))
    assert message is not None
    assert message.body == body, "the raw bytes are kept"
    assert not PWNED.exists()
    for incident in at.open():
        assert incident.hosts == ("web-1",)
        assert incident.addresses == ()
        assert re.fullmatch(r"[a-z0-9_.-]{1,64}", incident.type)
        assert verify(incident.id, at.store.events(incident.id), ()).intact
        assert all(shows_itself(event.data) for event in at.store.events(incident.id))
        page = at.visitor().get(f"/incidents/{incident.number}")
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "<img" not in page.text


def test_a_template_in_an_alert_is_not_filled_in(at: Site) -> None:
    reply = at.alert(title=TEXTS["template"], labels={"x": TEXTS["expression"]})
    assert reply.status_code == 202
    (incident,) = at.open()
    assert incident.title == TEXTS["template"]
    (event,) = at.events(incident.id, Kind.ALERT_RECEIVED)
    assert event.data["labels"]["x"] == TEXTS["expression"]


@pytest.mark.parametrize("name", bodies())
def test_a_hostile_body_is_answered_and_nothing_breaks(at: Site, name: str) -> None:
    body = bodies()[name]
    reply = at.signed(body, source="big", message_id="m")
    assert reply.status_code in (202, 422)
    message = at.store.read(lambda tx: tx.message("big", "m"))
    assert message is not None
    assert message.body == body
    assert all(only_known_targets(one) for one in at.open())
    assert at.client.get("/health").status_code == 200
    assert at.alert(hosts=["db-1"]).status_code == 202, "the next one gets through"


def test_two_meanings_are_understood_as_none(at: Site) -> None:
    for name in ("two meanings", "two meanings, escaped"):
        assert at.signed(bodies()[name]).status_code == 422
    assert not at.open()


@pytest.mark.parametrize(
    "path",
    ["/webhooks/../health", "/webhooks/%2e%2e%2fdetection", "/webhooks/detection%00", "/webhooks/detection/",
     "/webhooks/", "/webhooks/Detection", "/webhooks/{{7*7}}", "/webhooks/-oProxyCommand=x", "/webhooks/" + "a" * 5000,
     "/webhooks/detection;x", "/webhooks//detection"],
)  # fmt: skip
def test_odd_paths_reach_no_source(at: Site, path: str) -> None:
    body = json.dumps(alert("x")).encode()
    headers = sign(at.keys.values["detection"], body, at.clock.at)
    reply = at.client.post(path, content=body, headers=headers, follow_redirects=False)
    assert reply.status_code in (307, 404, 405)
    assert not at.open()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
host_texts = st.sampled_from(["web-1", "WEB-2", "nosuch", "-x"]) | st.text(max_size=8)
label_names = st.sampled_from(["alertname", "instance", "severity", "src_ip"])
own_alerts = st.fixed_dictionaries(
    {"type": st.sampled_from(["system_compromise", "x"]) | json_values},
    optional={
        "severity": st.sampled_from(["critical", "high", "low"]) | json_values,
        "title": json_values,
        "hosts": st.lists(st.sampled_from(["web-1", "WEB-2", "nosuch", "-x"]) | st.text(max_size=8), max_size=4)
        | json_values,
        "addresses": st.lists(st.ip_addresses().map(str) | st.text(max_size=8), max_size=3),
        "labels": st.dictionaries(st.text(max_size=8), json_values, max_size=3),
        "fingerprint": st.sampled_from(["a", "b"]) | json_values,
        "occurred_at": st.datetimes().map(lambda at: at.isoformat() + "Z") | json_values,
        "status": st.sampled_from(["firing", "resolved"]) | json_values,
    },
)
notifications = st.fixed_dictionaries({
    "version": st.just("4") | json_values, "groupKey": st.text(max_size=5) | json_values,
    "alerts": st.lists(
        st.fixed_dictionaries(
            {"status": st.sampled_from(["firing", "resolved"]) | json_values,
             "labels": st.dictionaries(label_names, st.text(max_size=9)) | json_values},
            optional={"annotations": json_values, "startsAt": json_values, "fingerprint": st.sampled_from(["a", "b"])},
        ),
        max_size=3,
    ) | json_values,
}, optional={"truncatedAlerts": st.integers(-1, 9) | json_values})  # fmt: skip
any_body = (
    st.binary(max_size=200)
    | json_values.map(lambda value: json.dumps(value).encode())
    | own_alerts.map(lambda value: json.dumps(value).encode())
    | st.lists(own_alerts, max_size=4).map(lambda value: json.dumps({"alerts": value}).encode())
)
fuzzing = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@fuzzing
@given(body=any_body)
def test_no_signed_body_breaks_the_intake(shared: Site, body: bytes) -> None:
    assert shared.signed(body, source="big").status_code in (202, 422)


@fuzzing
@given(value=notifications)
def test_no_notification_breaks_the_intake(shared: Site, value: Any) -> None:
    headers = {"authorization": f"Bearer {shared.keys.values['token']}"}
    reply = shared.client.post("/webhooks/alertmanager", content=json.dumps(value).encode(), headers=headers)
    assert reply.status_code in (202, 422)


header_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=60).map(
    lambda s: s.encode("latin-1")
)


@fuzzing
@given(body=any_body, headers=st.dictionaries(
    st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "authorization", "content-type"]),
    header_text | st.just(b"v1,AAAA") | st.just(b"1772366400"),
))  # fmt: skip
def test_nothing_unsigned_gets_in(shared: Site, body: bytes, headers: dict[str, Any]) -> None:
    before = shared.store.incidents(limit=10_000)
    for source in ("detection", "bearer", "alertmanager"):
        assert shared.client.post(f"/webhooks/{source}", content=body, headers=headers).status_code == 401
    assert shared.store.incidents(limit=10_000) == before


def test_after_all_that_every_incident_is_sound(shared: Site) -> None:
    visitor = shared.visitor()
    for incident, _ in shared.store.incidents(limit=10_000):
        assert only_known_targets(incident)
        events = shared.store.events(incident.id)
        assert verify(incident.id, events, ()).intact
        assert all(shows_itself(event.data) for event in events)
        assert visitor.get(f"/incidents/{incident.number}").status_code == 200
