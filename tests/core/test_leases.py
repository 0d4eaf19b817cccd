"""When a lease is looked at again, what a look means, and when people hear of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from irflow.core.leases import Finding, finding, first_look, next_look, ran_out, renewable, to_tell, to_warn
from irflow.core.status import Lease

START = datetime(2026, 11, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


LEASE = Lease("isolation", "web-1", at(480), "s", 8 * 3600, START)
SHORT = replace(LEASE, until=at(1), seconds=60)


@pytest.mark.parametrize(
    ("drift", "minutes", "found"),
    [
        ("", 1, Finding.AS_RECORDED),
        ("absent", 1, Finding.GONE),
        ("gone", 1, Finding.GONE),
        ("rules_changed", 1, Finding.RULES_CHANGED),
        ("rebooted", 1, Finding.REBOOTED),
        ("expired", 479, Finding.EXPIRED_EARLY),
        ("expired", 480, Finding.EXPIRED),
        ("something that only a newer action says", 1, Finding.CHANGED),
    ],
)
def test_what_an_action_says_of_drift_has_a_name_for_people(drift: str, minutes: float, found: Finding) -> None:
    assert finding(drift, LEASE, at(minutes)) is found
    assert found.drift is (drift != "")


@pytest.mark.parametrize("found", [Finding.UNREACHABLE, Finding.BUSY])
def test_what_could_not_be_seen_is_no_drift(found: Finding) -> None:
    assert not found.drift


def test_a_lease_is_looked_at_every_minute_and_at_half_life() -> None:
    assert first_look(LEASE) == at(1)
    assert first_look(SHORT) == at(0.5)
    assert next_look(LEASE, 0, at(1)) == at(2)
    assert next_look(LEASE, 0, at(239.5)) == at(240)
    assert not renewable(LEASE, at(239.9))
    assert renewable(LEASE, at(240))


def test_what_cannot_be_seen_is_tried_more_rarely_but_never_past_a_mark() -> None:
    waits = [(next_look(LEASE, failures, at(10)) - at(10)).total_seconds() for failures in range(1, 8)]
    assert waits == [60, 120, 240, 480, 600, 600, 600]
    assert next_look(LEASE, 50, at(235)) == at(240), "half-life"
    assert next_look(LEASE, 50, at(355)) == at(360), "the warning"
    assert next_look(LEASE, 50, at(475)) == at(480), "the end"
    assert next_look(LEASE, 50, at(480)) == at(490), "and afterwards for as long as the incident is open"


def test_people_are_warned_once_when_a_quarter_is_left() -> None:
    assert not to_warn(LEASE, at(359))
    assert to_warn(LEASE, at(360))
    assert not to_warn(replace(LEASE, warned=True), at(400))
    assert not to_warn(LEASE, at(480)), "then it is over, which is told instead"
    assert ran_out(LEASE, at(480))
    assert not ran_out(LEASE, at(479))


def test_the_same_drift_again_and_again_is_told_every_ten_minutes_another_at_once() -> None:
    known = replace(LEASE, drift="gone", drifted_at=at(19), told_at=at(10))
    assert to_tell(LEASE, Finding.GONE, at(10))
    assert not to_tell(known, Finding.GONE, at(11))
    assert to_tell(known, Finding.GONE, at(20))
    assert to_tell(known, Finding.RULES_CHANGED, at(11))
