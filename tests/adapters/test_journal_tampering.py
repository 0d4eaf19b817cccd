"""Somebody with full rights on the database changes the journal; verification says what was done."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from irflow.adapters.anchors import SignedAnchors, open_anchors
from irflow.adapters.journal_sql import SqlStore, verify_all, verify_incident
from irflow.core.journal import GENESIS, Draft, Kind, canonical, chain
from irflow.core.ports import SystemClock
from tests.adapters.samples import an_incident, note


@pytest.fixture
def anchors(tmp_path: Path) -> SignedAnchors:
    return open_anchors(tmp_path / "keys", tmp_path / "outside")


@pytest.fixture
def incident(store: SqlStore, anchors: SignedAnchors) -> str:
    """An incident of ten events between others, the first eight anchored."""
    opened = store.transact(lambda tx: tx.open_incident(an_incident(), "irflow:web"))
    for number in range(2, 11):
        store.transact(lambda tx: tx.append("other", note()))
        store.transact(lambda tx, number=number: tx.append(opened.id, note(f"event {number}")))  # type: ignore[misc]
    head = store.events(opened.id)[7]
    anchors.sign(opened.id, head.seq, head.hash, head.at)
    return opened.id


def tamper(store: SqlStore, *statements: str, incident: str = "") -> None:
    """As the owner of the database would: first the triggers go."""
    with store.database.writing.begin() as connection:
        _disarm(connection, store.database.sqlite)
        for statement in statements:
            assert connection.execute(text(statement), {"i": incident} if ":i" in statement else {}).rowcount != 0


def _disarm(connection: Connection, sqlite: bool) -> None:
    if sqlite:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
        for name in names:
            connection.execute(text(f"DROP TRIGGER {name}"))
    else:
        connection.execute(text("DROP TRIGGER events_append_only ON events"))


def found(store: SqlStore, anchors: SignedAnchors, incident: str) -> set[tuple[str, int]]:
    result = verify_incident(store, anchors, incident)
    assert result in verify_all(store, anchors)
    return {(finding.damage.value, finding.seq) for finding in result.findings}


def test_an_untouched_journal_is_intact_and_names_what_is_not_anchored(
    store: SqlStore, anchors: SignedAnchors, incident: str
) -> None:
    result = verify_incident(store, anchors, incident)
    assert (result.intact, result.events, result.unanchored) == (True, 10, (9, 10))
    assert {one.incident: one.intact for one in verify_all(store, anchors)} == {incident: True, "other": True}


MINE = "WHERE incident = :i AND seq"
ATTACKS = {
    "a byte of the data flipped": ([f"UPDATE events SET data = replace(data, '5', '6') {MINE} = 5"], {("flipped", 5)}),
    "data that is no JSON any more": ([f"UPDATE events SET data = '{{' || data {MINE} = 5"], {("flipped", 5)}),
    "a space put into the data": ([f"UPDATE events SET data = replace(data, ':', ': ') {MINE} = 5"], {("flipped", 5)}),
    "another actor": ([f"UPDATE events SET actor = 'operator:eve' {MINE} = 3"], {("flipped", 3)}),
    "another epoch": ([f"UPDATE events SET epoch = 9223372036854775807 {MINE} = 3"], {("flipped", 3)}),
    "a byte of the hash": ([f"UPDATE events SET hash = 'f' || substr(hash, 2) || 'x' {MINE} = 4"], {("flipped", 4)}),
    "a row removed": ([f"DELETE FROM events {MINE} = 4"], {("removed", 4)}),
    "the first row removed": ([f"DELETE FROM events {MINE} = 1"], {("removed", 1)}),
    "a row moved to another incident": (
        ["UPDATE events SET incident = 'elsewhere' WHERE incident = :i AND seq = 4"],
        {("removed", 4)},
    ),
    "a row removed, the rest renumbered": (
        [
            f"DELETE FROM events {MINE} = 4",
            *(f"UPDATE events SET seq = {seq - 1} {MINE} = {seq}" for seq in range(5, 11)),
        ],
        {("removed", 4)},
    ),
    "the numbers of two rows swapped": (
        [f"UPDATE events SET seq = {new} {MINE} = {old}" for old, new in ((3, 99), (6, 3), (99, 6))],
        {("reordered", 3), ("reordered", 6)},
    ),
    "two rows swapped where they are stored": (
        [
            f"UPDATE events SET id = -1 {MINE} = 3",
            f"UPDATE events SET id = -2 {MINE} = 6",
            f"UPDATE events SET id = (SELECT id + 2 FROM events {MINE} = 5) {MINE} = 3",
            f"UPDATE events SET id = (SELECT id + 2 FROM events {MINE} = 2) {MINE} = 6",
        ],
        {("reordered", 3), ("reordered", 6)},
    ),
    "a tail cut that an anchor covers": ([f"DELETE FROM events {MINE} > 6"], {("cut_tail", 7)}),
    "everything cut": (["DELETE FROM events WHERE incident = :i"], {("cut_tail", 1)}),
}


@pytest.mark.parametrize(("statements", "expected"), ATTACKS.values(), ids=ATTACKS.keys())
def test_damage_is_found_and_named(
    store: SqlStore, anchors: SignedAnchors, incident: str, statements: list[str], expected: set[tuple[str, int]]
) -> None:
    tamper(store, *statements, incident=incident)
    assert found(store, anchors, incident) == expected
    assert verify_incident(store, anchors, "other").intact


def test_a_full_rewrite_with_right_hashes_disagrees_with_the_anchor(
    store: SqlStore, anchors: SignedAnchors, incident: str
) -> None:
    old = store.events(incident)
    drafts = [Draft(Kind(event.kind), event.actor, event.data) for event in old]
    drafts[4] = note("nothing happened")
    forged = chain(incident, (0, GENESIS), SystemClock().now(), drafts)
    change = "UPDATE events SET at = :at, data = :data, prev = :prev, hash = :hash WHERE incident = :i AND seq = :seq"
    with store.database.writing.begin() as connection:
        _disarm(connection, store.database.sqlite)
        for event in forged:
            fields = {name: getattr(event, name) for name in ("at", "prev", "hash", "seq")}
            connection.execute(text(change), {**fields, "data": canonical(event.data).decode(), "i": incident})
    assert store.events(incident)[4].data == {"text": "nothing happened"}
    assert found(store, anchors, incident) == {("rewritten", 8)}


def test_an_incident_without_any_event_or_anchor_is_missed(store: SqlStore, anchors: SignedAnchors) -> None:
    opened = store.transact(lambda tx: tx.open_incident(an_incident(), "x"))
    tamper(store, "DELETE FROM events")
    assert found(store, anchors, opened.id) == {("cut_tail", 1)}


def test_a_forged_anchor_is_a_finding_and_the_chain_is_still_checked(
    store: SqlStore, anchors: SignedAnchors, incident: str, tmp_path: Path
) -> None:
    file = tmp_path / "outside" / f"{incident}.jsonl"
    file.write_text(file.read_text().replace('"seq":8', '"seq":7'))
    tamper(store, f"UPDATE events SET actor = 'x' {MINE} = 2", incident=incident)
    assert found(store, anchors, incident) == {("forged_anchor", 0), ("flipped", 2)}


def test_an_anchored_chain_that_vanished_with_its_incident_is_missed(
    store: SqlStore, anchors: SignedAnchors, incident: str
) -> None:
    tamper(store, "DELETE FROM events WHERE incident = :i", "DELETE FROM incidents", incident=incident)
    assert found(store, anchors, incident) == {("cut_tail", 1)}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_bytes_flipped_in_the_file_itself_are_found(store: SqlStore, anchors: SignedAnchors, incident: str) -> None:
    with store.database.writing.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = Path(str(store.database.url.database))
    content = file.read_bytes()
    assert content.count(b'{"text":"event 5"}') == 1
    file.write_bytes(content.replace(b'{"text":"event 5"}', b'{"text":"event\xff5"}'))
    assert found(store, anchors, incident) == {("flipped", 5)}
