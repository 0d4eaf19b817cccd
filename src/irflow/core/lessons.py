"""What went well and what to improve, read off the record instead of remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from irflow.core.journal import Event, Kind
from irflow.core.model import Json, from_text

HUMAN_SHARE = 0.5
"""A phase that waited for people more than this share of its window is worth a look at its approvals."""


def lessons(record: Mapping[str, Json], events: Sequence[Event]) -> dict[str, list[str]]:
    """`well` and `improve`: one sentence each, with the figure it rests on.

    record: the rest of core.record.scope. Says nothing that the journal does not show.
    """
    kinds = [event.kind for event in events]
    return {
        "well": [*_phases_met(record), *_proved(record), *_evidence(record, kept=True), *_unattended(record)],
        "improve": [
            *_phases_missed(record), *_waits(record), *_troubled(record), *_evidence(record, kept=False),
            *_asset_gaps(record), *_events(kinds), *_late_alert(events),
        ],
    }  # fmt: skip


def _minutes(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _name(phase: str) -> str:
    return phase.replace("_", " ")


def _phases_met(record: Mapping[str, Json]) -> Iterator[str]:
    for one in record["phases"]:
        if one["met"] and one["ended_at"]:
            taken, window = _minutes(one["since_detection_s"]), _minutes(one["window_s"])
            yield f"{_name(one['phase'])} was done {taken} after detection, its window is {window}"


def _phases_missed(record: Mapping[str, Json]) -> Iterator[str]:
    for one in record["phases"]:
        if one["met"] is False:
            state = "done" if one["ended_at"] else "still not done"
            taken, window = _minutes(one["since_detection_s"]), _minutes(one["window_s"])
            share = f"{_minutes(one['machine_s'])} machine, {_minutes(one['human_s'])} waiting for people"
            yield f"{_name(one['phase'])} was {state} {taken} after detection, its window is {window} ({share})"


def _waits(record: Mapping[str, Json]) -> Iterator[str]:
    for one in record["phases"]:
        if one["window_s"] and one["human_s"] > HUMAN_SHARE * one["window_s"]:
            waited = _minutes(one["human_s"])
            yield f"{_name(one['phase'])} waited {waited} for people: approve in advance, or name a deputy?"


def _proved(record: Mapping[str, Json]) -> Iterator[str]:
    checks = [check for step in record["steps"] for check in step["checks"]]
    passed = sum(1 for check in checks if check["passed"])
    if checks and passed == len(checks):
        yield f"every effect was proved from outside: {passed} checks passed, none failed"


def _unattended(record: Mapping[str, Json]) -> Iterator[str]:
    done = [one for one in record["steps"] if one["action"] and one["state"] in ("done", "noop") and not one["people"]]
    if done:
        yield f"{len(done)} of {len(record['steps'])} steps needed no person"


def _troubled(record: Mapping[str, Json]) -> Iterator[str]:
    for step in record["steps"]:
        if step["state"] in ("failed", "unknown", "refused", "undo_failed"):
            detail = step["detail"] or step["note"]
            yield f"{step['key']} ended {step['state']}" + (f": {detail}" if detail else "")
        elif step["attempts"] > 1:
            yield f"{step['key']} needed {step['attempts']} attempts"


def _evidence(record: Mapping[str, Json], *, kept: bool) -> Iterator[str]:
    have = {one["where"] for one in record["evidence"]}
    hosts = record["incident"]["hosts"]
    if kept and hosts and have.issuperset(hosts):
        yield f"evidence was kept from every host ({len(record['evidence'])}), with hash and custody entry"
    if not kept:
        yield from (f"no evidence was kept from {host}" for host in hosts if host not in have)


def _asset_gaps(record: Mapping[str, Json]) -> Iterator[str]:
    for name in record["incident"]["unknown_hosts"]:
        yield f"an alert named {name}, which the inventory does not have: add it, or correct the source"
    if record["incident"]["trust"] == "unverified":
        yield "the alert's sender was not verified, so nothing was done unattended: sign what this source sends"


def _events(kinds: Sequence[str]) -> Iterator[str]:
    for kind, text in (
        (Kind.NOTIFICATION_FAILED, "notifications did not get out: look at the channels"),
        (Kind.LEASE_DRIFTED, "times an isolation was not as irflow had left it: who changed it?"),
        (Kind.ESCALATED, "escalations: see the timeline for what was stuck"),
        (Kind.CLOCK_BREACHED, "deadlines passed"),
    ):
        count = kinds.count(kind)
        if count:
            yield f"{count} {text}"


def _late_alert(events: Sequence[Event]) -> Iterator[str]:
    """How long the trouble went on before the source noticed, where the source says when it began."""
    for event in events:
        if event.kind == Kind.ALERT_RECEIVED:
            began = event.data.get("alert", event.data).get("occurred_at")
            if began:
                late = (event.moment - from_text(began)).total_seconds()
                if late > 900:
                    yield f"the first alert came {_minutes(late)} after the trouble began: can it be seen earlier?"
            return
