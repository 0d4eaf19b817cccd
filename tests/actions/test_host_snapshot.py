"""What becomes of the time box, and of an archive that does not come."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from irflow.actions.host_snapshot import HostSnapshot, SnapshotParams, archive, shares
from irflow.core.action import Proof
from irflow.core.errors import RemoteFailed
from irflow.core.ports import Completed
from tests.fakes.remote import FakeEvidence, FakeShell, context

SNAPSHOT = HostSnapshot()
VOLATILE, STATE = b"volatile", b"state"


def said(content: bytes, more: str = "missing=") -> Completed:
    return Completed(0, content, f"sha256={hashlib.sha256(content).hexdigest()} clock=1 {more}\n".encode(), 0.1)


def taken(shell: FakeShell, store: FakeEvidence) -> Proof:
    params, about = SnapshotParams(host="web-1"), context(shell=shell, evidence=store)
    changes = SNAPSHOT.plan(params, {})
    return SNAPSHOT.verify(params, {}, tuple(SNAPSHOT.apply(one, about) for one in changes), about)


@pytest.mark.parametrize(("seconds", "parts"), [(6, (2, 4)), (30, (10, 20)), (120, (20, 100)), (600, (20, 580))])
def test_what_is_volatile_gets_a_third_of_the_time_and_no_more_than_it_needs(
    seconds: int, parts: tuple[int, int]
) -> None:
    assert shares(seconds) == parts
    assert sum(parts) == seconds


def test_the_more_volatile_archive_is_taken_first_and_both_say_their_bounds() -> None:
    first, second = SNAPSHOT.plan(SnapshotParams(host="web-1", seconds=30, max_mb=9), {})
    assert first.summary.endswith("in the order of RFC 3227 from web-1 in at most 10 s")
    assert second.summary.endswith("from web-1 in at most 20 s, 9 MiB")
    assert archive(first.data).args == ("volatile", "--seconds", "10")
    assert archive(second.data).args == ("--seconds", "20", "--max-mb", "9")
    assert archive(second.data).most > 9 << 20


def test_the_calls_of_the_longest_time_box_fit_the_timeout_of_the_runbook_on_a_fast_line() -> None:
    changes = SNAPSHOT.plan(SnapshotParams(host="web-1"), {})
    assert sum(archive(one.data).timeout_s for one in changes) < 15 * 60


@pytest.mark.parametrize("wrong", [{"seconds": 5}, {"seconds": 601}, {"max_mb": 0}, {"max_mb": 1025}])
def test_bounds_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SnapshotParams.model_validate({"host": "web-1", **wrong})


def test_both_archives_are_kept_with_custody_and_what_is_incomplete_is_named() -> None:
    shell = FakeShell({
        "evidence.sh volatile": said(VOLATILE, "missing=conntrack"),
        "snapshot.sh --seconds": said(STATE, "missing=atq,nft cut=06_packages_verify:time,06_logs:size"),
    })  # fmt: skip
    store = FakeEvidence()
    proof = taken(shell, store)
    assert proof.passed
    volatile, state = proof.facts["evidence"]
    assert (store.items[volatile["path"]], store.items[state["path"]]) == (VOLATILE, STATE)
    assert (volatile["profile"], state["profile"]) == ("volatile", "full")
    assert "cut" not in volatile
    assert state["cut"] == ["06_packages_verify:time", "06_logs:size"]
    assert proof.facts["incomplete"] == ["06_logs:size", "06_packages_verify:time", "atq", "conntrack", "nft"]
    assert state["how"].startswith("snapshot.sh --seconds 100 --max-mb 256 over SSH, script SHA-256 ")


def test_of_a_second_archive_that_does_not_come_the_first_stays_on_record() -> None:
    failure = RemoteFailed("snapshot.sh ended with status 73", where="web-1", status=73)
    proof = taken(FakeShell({"evidence.sh volatile": said(VOLATILE), "snapshot.sh --seconds": failure}), FakeEvidence())
    assert not proof.passed
    assert [one["profile"] for one in proof.facts["evidence"]] == ["volatile"]
    assert "status 73" in str(proof.checks[1])


def test_what_does_not_hash_as_it_was_sent_is_not_kept() -> None:
    other = Completed(0, b"other", said(STATE).stderr, 0.1)
    store = FakeEvidence()
    assert not taken(FakeShell({"evidence.sh volatile": said(VOLATILE), "snapshot.sh --seconds": other}), store).passed
    assert list(store.items.values()) == [VOLATILE]


def test_nothing_on_a_host_changes() -> None:
    assert not SNAPSHOT.mutates
    assert not SNAPSHOT.reversible
    assert SNAPSHOT.irreversible_because
