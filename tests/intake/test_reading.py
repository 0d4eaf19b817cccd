"""How bodies, labels and texts of sources become alerts."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.core.errors import ConfigurationError
from irflow.intake import alertmanager, standard
from irflow.intake.hardened_json import read_json
from irflow.intake.kind import Kind, load_kinds
from irflow.intake.parcel import Parcel
from irflow.intake.refusal import NotUnderstood
from irflow.intake.source import Source
from irflow.intake.targets import usable_addresses
from irflow.intake.text import clean

AM = Source.model_validate({
    "name": "am", "kind": "alertmanager", "auth": "none", "type_map": {"RootkitFound": "system_compromise"},
    "severity_map": {"P0": "critical"},
})  # fmt: skip
OWN = Source.model_validate({"name": "own", "auth": "none"})


def notification(*alerts: dict[str, Any], **fields: Any) -> bytes:
    """Alertmanager's webhook body, version 4, with the fields that it sends."""
    each = [
        {"status": "firing", "labels": {"alertname": "RootkitFound"}, "annotations": {},
         "startsAt": "2026-03-01T11:59:00.123456789Z", "endsAt": "0001-01-01T00:00:00Z",
         "generatorURL": "http://prometheus/graph", "fingerprint": f"{at:016x}", **one}
        for at, one in enumerate(alerts)
    ]  # fmt: skip
    return json.dumps({
        "receiver": "irflow", "status": "firing", "alerts": each, "groupLabels": {}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "http://am", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
        **fields,
    }).encode()  # fmt: skip


def labels(**more: str) -> dict[str, Any]:
    return {"labels": {"alertname": "RootkitFound", **more}}


def test_alertmanagers_fields_become_an_alert() -> None:
    alert = {
        "labels": {"alertname": "RootkitFound", "severity": "page", "instance": "web-1:9100", "src_ip": "192.0.2.1",
                   "user": "bob"},
        "annotations": {"summary": "A rootkit", "description": "It is\nhidden"},
    }  # fmt: skip
    (one,) = alertmanager.read(AM, notification(alert)).readings
    assert (one.type, one.severity.value, one.title, one.summary) == (
        "system_compromise", "critical", "A rootkit", "It is\nhidden"
    )  # fmt: skip
    assert (one.hosts, one.addresses, one.accounts) == (("web-1:9100",), ("192.0.2.1",), ("bob",))
    assert one.fingerprint == f"{0:016x}"
    assert one.occurred_at is not None
    assert one.occurred_at.isoformat() == "2026-03-01T11:59:00.123456+00:00"


@pytest.mark.parametrize(
    ("more", "type_"),
    [
        ({"alertname": "rootkitfound"}, "system_compromise"),
        ({"alertname": "SystemCompromise"}, "system_compromise"),
        ({"alertname": "Disk full!"}, "disk_full"),
        ({"alertname": "X", "incident_type": "Data Breach"}, "data_breach"),
        ({"alertname": "", "type": ""}, "unclassified"),
    ],
)
def test_the_type_comes_from_the_map_a_label_or_the_alerts_name(more: dict[str, str], type_: str) -> None:
    assert alertmanager.read(AM, notification(labels(**more))).readings[0].type == type_


@pytest.mark.parametrize(
    ("word", "severity"),
    [
        ("critical", "critical"),
        ("P0", "critical"),
        ("Warning", "medium"),
        ("info", "low"),
        ("odd", "medium"),
        ("", "medium"),
    ],
)
def test_the_severity_comes_from_the_map_or_the_usual_words(word: str, severity: str) -> None:
    assert alertmanager.read(AM, notification(labels(severity=word))).readings[0].severity.value == severity


def test_the_most_telling_host_label_names_the_host() -> None:
    seen = alertmanager.read(AM, notification(labels(instance="exporter:8080", node="web-2"))).readings[0]
    assert seen.hosts == ("web-2",)


def test_alerts_that_alertmanager_left_out_are_counted() -> None:
    assert alertmanager.read(AM, notification(labels(), truncatedAlerts=7)).left_out == 7


@pytest.mark.parametrize(
    "fields",
    [{"version": "3"}, {"alerts": []}, {"alerts": None}, {"alerts": [1]}, {"alerts": [{"status": "odd", "labels": {}}]},
     {"truncatedAlerts": -1}, {"truncatedAlerts": 10**29}, {"groupKey": 1}],
)  # fmt: skip
def test_what_is_no_notification_is_not_understood(fields: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        alertmanager.read(AM, notification(labels(), **fields))


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"x"', b"1", b"{}", b'{"alerts": []}', b'{"alerts": {}}', b'{"alerts": [1]}',
     b'{"type": "x", "host": "web-1"}', b'{"type": "x", "hosts": "web-1"}', b'{"type": "x", "hosts": [1]}',
     b'{"type": "x", "severity": "urgent"}', b'{"type": "..."}', b'{"type": "x", "occurred_at": "yesterday"}',
     b'{"type": "x", "occurred_at": "2026-01-01T00:00:00"}',
     b'{"type": "x", "occurred_at": "0001-01-01T00:00:00+14:00"}',
     b'{"type": "x", "status": "odd"}', b'{"type": "x", "labels": {"a": {}}}', b'{"type": "x"}\x00', b"\xff\xfe{}",
     b'{"alerts": [{"type": "x"}], "more": 1}'],
)  # fmt: skip
def test_what_is_no_alert_is_not_understood(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        standard.read(OWN, body)


def test_null_is_the_same_as_nothing() -> None:
    (one,) = standard.read(OWN, b'{"type": "x", "hosts": null, "severity": null}').readings
    assert (one.hosts, one.severity.value, one.title) == ((), "medium", "x")


def test_a_mistake_is_named_by_its_field_and_not_repeated() -> None:
    with pytest.raises(NotUnderstood) as wrong:
        standard.read(OWN, b'{"type": "x", "hosts": ["web-1", 666]}')
    assert "alerts.0.hosts.1" in str(wrong.value)
    assert "666" not in str(wrong.value)


@pytest.mark.parametrize(
    "body",
    [b'{"a": 1, "a": 2}', b'{"a": {"b": 1, "b": 1}}', b"[NaN]", b"[Infinity]", b"[-Infinity]", b"[1e999]",
     b"[" + b"9" * 5000 + b"]", b"[" * 33 + b"]" * 33, b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000,
     b'{"a":' * 100_000, b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf{}", b"{} {}", b"'a'", b"[1,]", b"01"],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_ambiguous_or_exhausting_json_is_refused(body: bytes) -> None:
    with pytest.raises(NotUnderstood):
        read_json(body)


def test_ordinary_json_is_read() -> None:
    assert read_json('{"a": [1, 2.5, true, null, "é"]}'.encode()) == {"a": [1, 2.5, True, None, "é"]}
    assert read_json(b"[" * 32 + b"]" * 32)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("a\r\nBcc: x@example.com", "a  Bcc: x@example.com"),
        ("\x1b[2Jgone", "<U+001B>[2Jgone"),
        ("a\u202egpj.exe", "a<U+202E>gpj.exe"),
        ("nul\x00", "nul<U+0000>"),
        ("\ud800", "<U+D800>"),
        ("naïve Δ 漢字 می\u200cخواهم", "naïve Δ 漢字 می\u200cخواهم"),
        ("x" * 60, "x" * 49 + "…"),
    ],
)
def test_text_shows_what_was_sent(text: str, seen: str) -> None:
    assert clean(text, 50) == seen


def test_addresses_that_could_cut_everything_off_are_no_targets() -> None:
    assert usable_addresses(
        ["192.0.2.1", "192.0.2.1/32", " 192.0.2.7/24", "2001:DB8::1", "::ffff:192.0.2.9", "0.0.0.0/0", "10.0.0.0/8",
         "::/0", "127.0.0.1", "::1", "224.0.0.1", "0.0.0.0", "fe80::1%$(id)", "1.2.3", "host", "", "::ffff:127.0.0.1"]
    ) == ("192.0.2.1", "192.0.2.0/24", "2001:db8::1", "192.0.2.9")  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [{"auth": "hmac"}, {"auth": "none", "key": "file:k"}, {"auth": "bearer", "key": "not-a-reference"}, {"auth": "odd"},
     {"name": "../x", "auth": "none"}, {"name": "-x", "auth": "none"}, {"auth": "none", "max_body": 0}, {},
     {"auth": "none", "odd": 1}],
)  # fmt: skip
def test_a_source_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Source.model_validate({"name": "x", **fields})


def test_a_key_that_is_no_reference_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ValidationError) as wrong:
        Source.model_validate({"name": "x", "auth": "bearer", "key": "hunter2hunter2"})
    assert "hunter2" not in wrong.value.errors(include_input=False)[0]["msg"]


class Added(EntryPoint):
    """An entry point of a package that is not installed."""

    def load(self) -> Any:
        if self.value == "broken":
            raise ImportError("no such module")
        return {"kind": Kind("edr", lambda source, body: Parcel(readings=())), "again": standard, "odd": 1}[self.value]


def test_other_packages_add_kinds() -> None:
    kinds = load_kinds([Added("edr", "kind", "irflow.intake")])
    assert set(kinds) == {"alertmanager", "standard", "edr"}


@pytest.mark.parametrize(("value", "says"), [("broken", "no such module"), ("again", "already"), ("odd", "KIND")])
def test_a_broken_or_duplicate_kind_stops_the_start_by_name(value: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        load_kinds([Added("their-name", value, "irflow.intake")])
    assert "their-name" in str(wrong.value)
    assert says in str(wrong.value)
