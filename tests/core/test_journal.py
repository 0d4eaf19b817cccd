"""The hash chain: what it is made of, and what verification says of every kind of damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irflow.core.journal import GENESIS, Anchor, Damage, Draft, Event, Kind, Verification, chain, digest, verify

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
Rows = list[Event]


def a_chain(length: int = 8, text: str = "event") -> Rows:
    drafts = [Draft(Kind.NOTE, "irflow:test", {"text": f"{text} {number}"}) for number in range(1, length + 1)]
    return list(chain("I", (0, GENESIS), NOW, drafts))


CHAIN = a_chain()


def anchor(seq: int, rows: Rows = CHAIN) -> Anchor:
    return Anchor("I", seq, rows[seq - 1].hash, "2026-03-01T13:00:00.000000Z", "signed")


def found(result: Verification) -> set[tuple[str, int]]:
    return {(finding.damage.value, finding.seq) for finding in result.findings}


def check(rows: Rows, *anchors: Anchor) -> set[tuple[str, int]]:
    return found(verify("I", rows, anchors))


def at(rows: Rows, place: int, **changes: Any) -> Rows:
    """The chain with one event changed."""
    return [replace(event, **changes) if event.seq == place else event for event in rows]


def without(rows: Rows, *seqs: int) -> Rows:
    return [event for event in rows if event.seq not in seqs]


def renumbered(rows: Rows) -> Rows:
    return [replace(event, seq=number) for number, event in enumerate(rows, 1)]


def numbers_swapped(rows: Rows, one: int, other: int) -> Rows:
    swap = {one: other, other: one}
    return [replace(event, seq=swap.get(event.seq, event.seq)) for event in rows]


def places_swapped(rows: Rows, one: int, other: int) -> Rows:
    rows = list(rows)
    rows[one - 1], rows[other - 1] = rows[other - 1], rows[one - 1]
    return rows


def rehashed(event: Event, **changes: object) -> Event:
    """A forged event whose hash is right."""
    fields = {name: getattr(event, name) for name in Event.__slots__} | changes
    del fields["hash"]
    return Event(**fields, hash=digest(fields))


def rewritten(rows: Rows, start: int) -> Rows:
    """Everything from one event on made anew, consistent in itself."""
    drafts = [Draft(Kind.NOTE, "irflow:test", {"text": "another story"})] * (len(rows) - start + 1)
    head = (start - 1, rows[start - 2].hash if start > 1 else GENESIS)
    return rows[: start - 1] + list(chain("I", head, NOW, drafts))


def test_an_event_links_to_the_one_before_by_the_hash_of_all_its_fields() -> None:
    first, second = CHAIN[:2]
    assert (first.seq, first.prev, second.prev) == (1, GENESIS, first.hash)
    fields = {name: getattr(first, name) for name in Event.__slots__ if name != "hash"}
    assert first.hash == digest(fields)
    assert first.moment == NOW


def test_a_chain_goes_on_after_its_head() -> None:
    (more,) = chain("I", (8, CHAIN[-1].hash), NOW, [Draft(Kind.NOTE, "x", {})])
    assert check([*CHAIN, more]) == set()


def test_an_intact_chain_has_no_finding_and_names_what_is_not_anchored() -> None:
    result = verify("I", CHAIN, [anchor(3), anchor(6)])
    assert result.intact
    assert (result.events, result.unanchored) == (8, (7, 8))
    assert verify("I", [], []).intact


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", {"text": "event 5"}),
        ("data", {"text": 2**60}),
        ("at", "2026-03-01T12:30:15.123457Z"),
        ("kind", "note2"),
        ("step", "x"),
        ("target", "x"),
        ("epoch", 2**62),
        ("actor", "operator:eve"),
        ("incident", "J"),
        ("prev", "f" * 64),
        ("hash", "f" * 64),
        ("seq", 40),
    ],
)
def test_a_change_in_any_field_is_one_flipped_event(field: str, value: object) -> None:
    changed = at(CHAIN, 4, **{field: value})
    assert check(changed, anchor(8)) == {("flipped", 40 if field == "seq" else 4)}


@pytest.mark.parametrize("seq", [1, 8])
@pytest.mark.parametrize("field", ["data", "hash", "prev"])
def test_also_at_both_ends(seq: int, field: str) -> None:
    value: object = {} if field == "data" else "e" * 64
    assert check(at(CHAIN, seq, **{field: value}), anchor(8)) == {("flipped", seq)}


CASES: list[tuple[str, Callable[[], Rows], set[tuple[str, int]]]] = [
    ("one row removed", lambda: without(CHAIN, 4), {("removed", 4)}),
    ("the first row removed", lambda: without(CHAIN, 1), {("removed", 1)}),
    ("rows removed in two places", lambda: without(CHAIN, 2, 3, 6), {("removed", 2), ("removed", 6)}),
    ("removed and renumbered to hide it", lambda: renumbered(without(CHAIN, 3)), {("removed", 3)}),
    ("two removed and renumbered", lambda: renumbered(without(CHAIN, 3, 4)), {("removed", 3)}),
    ("numbers of neighbours swapped", lambda: numbers_swapped(CHAIN, 3, 4), {("reordered", 3), ("reordered", 4)}),
    ("numbers far apart swapped", lambda: numbers_swapped(CHAIN, 2, 7), {("reordered", 2), ("reordered", 7)}),
    ("numbers at the ends swapped", lambda: numbers_swapped(CHAIN, 1, 8), {("reordered", 1), ("reordered", 8)}),
    ("rows far apart swapped", lambda: places_swapped(CHAIN, 2, 7), {("reordered", 2), ("reordered", 7)}),
    ("a row moved to the end", lambda: [*without(CHAIN, 3), CHAIN[2]], {("reordered", 3)}),
    ("one removed, one flipped", lambda: at(without(CHAIN, 3), 6, actor="x"), {("removed", 3), ("flipped", 6)}),
    ("two flipped side by side", lambda: at(at(CHAIN, 4, actor="x"), 5, actor="x"), {("flipped", 4), ("flipped", 5)}),
    (
        "one event replaced, its hash made right",
        lambda: [rehashed(event, data={"text": "innocent"}) if event.seq == 4 else event for event in CHAIN],
        {("rewritten", 4)},
    ),
    (
        "the first event replaced",
        lambda: [rehashed(CHAIN[0], prev="a" * 64), *CHAIN[1:]],
        {("rewritten", 1)},
    ),
    ("a second event in one place", lambda: [*CHAIN[:5], rehashed(CHAIN[4], data={}), *CHAIN[5:]], {("rewritten", 5)}),
]


@pytest.mark.parametrize(("rows", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("anchors", [(), (anchor(6),)], ids=["no anchors", "anchored"])
def test_damage_is_named(rows: Callable[[], Rows], expected: set[tuple[str, int]], anchors: tuple[Anchor, ...]) -> None:
    assert check(rows(), *anchors) == expected


def test_neighbouring_rows_swapped_are_one_reordering() -> None:
    result = verify("I", places_swapped(CHAIN, 3, 4), [anchor(8)])
    assert [finding.damage for finding in result.findings] == [Damage.REORDERED]
    assert result.findings[0].seq in (3, 4)


def test_a_cut_tail_is_seen_only_where_an_anchor_covers_it() -> None:
    assert check(CHAIN[:5], anchor(4), anchor(8)) == {("cut_tail", 6)}
    assert check(CHAIN[:5], anchor(4)) == set()
    assert check([], anchor(4)) == {("cut_tail", 1)}


def test_a_rewrite_disagrees_with_the_first_anchor_after_it() -> None:
    forged = rewritten(CHAIN, 3)
    assert check(forged) == set()
    assert check(forged, anchor(2), anchor(5), anchor(8)) == {("rewritten", 5)}
    assert check(rewritten(CHAIN, 1), anchor(8)) == {("rewritten", 8)}
    assert check(forged[:6], anchor(5), anchor(8)) == {("rewritten", 5), ("cut_tail", 7)}


def test_a_chain_signed_again_after_a_rewrite_still_disagrees_with_the_older_anchor() -> None:
    forged = rewritten(CHAIN, 3)
    assert check(forged, anchor(8), anchor(8, forged)) == {("rewritten", 8)}


@given(st.data())
def test_no_single_removal_swap_or_change_goes_unseen_before_an_anchor(data: st.DataObject) -> None:
    rows = a_chain(12)
    one, other = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=2, unique=True))
    kind, damaged = data.draw(
        st.sampled_from(
            [
                ({"removed", "cut_tail"}, without(rows, one)),
                ({"removed", "cut_tail"}, renumbered(without(rows, one))),
                ({"reordered"}, numbers_swapped(rows, one, other)),
                ({"reordered"}, places_swapped(rows, one, other)),
                ({"flipped"}, at(rows, one, data={"text": "x"})),
                ({"rewritten"}, rewritten(rows, one)),
            ]
        )
    )
    named = {damage for damage, _ in check(damaged, anchor(12, rows))}
    assert len(named) == 1
    assert named <= kind


@given(st.lists(st.integers(0, 11), max_size=20), st.lists(st.tuples(st.integers(0, 11), st.integers(-3, 20))))
def test_verification_ends_and_never_raises_whatever_was_done(order: list[int], seqs: list[tuple[int, int]]) -> None:
    rows = a_chain(12)
    for index, seq in seqs:
        rows[index] = replace(rows[index], seq=seq)
    verify("I", [rows[index] for index in order], [anchor(5)])


def test_a_chain_broken_throughout_is_judged_in_bounded_time() -> None:
    rows = [replace(event, actor="x") for event in a_chain(2000)]
    assert len(verify("I", rows, ()).findings) == 2000
