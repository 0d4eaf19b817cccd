"""What becomes evidence, and what does not."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest

from irflow.actions._custody import item_name
from irflow.actions.evidence_collect import CollectParams, EvidenceCollect
from irflow.core.errors import IrflowError
from irflow.core.ports import Completed
from tests.fakes.remote import FakeEvidence, FakeShell, context

COLLECT = EvidenceCollect()
CONTENT = b"tar"
SHA = hashlib.sha256(CONTENT).hexdigest()


def collect(said: str, profile: str = "volatile") -> tuple[FakeEvidence, FakeShell, dict[str, object]]:
    shell = FakeShell({f"evidence.sh {profile}": Completed(0, CONTENT, said.encode(), 0.1)})
    store = FakeEvidence()
    params = CollectParams.model_validate({"host": "web-1", "profile": profile})
    (change,) = COLLECT.plan(params, {})
    about = context(shell=shell, evidence=store)
    try:
        applied = COLLECT.apply(change, about)
    except IrflowError as error:
        return store, shell, {"error": str(error)}
    proof = COLLECT.verify(params, {}, (applied,), about)
    assert proof.passed
    return store, shell, proof.facts["evidence"][0]


def test_what_arrives_as_it_was_sent_is_kept_with_its_custody() -> None:
    now = datetime.now(UTC).timestamp()
    store, _, entry = collect(f"a warning\nsha256={SHA} bytes=3 clock={now + 100} missing=ss,nft\n")
    assert store.items[str(entry["path"])] == CONTENT
    assert entry["sha256"] == SHA
    assert entry["missing"] == ["ss", "nft"]
    assert entry["clock_offset_s"] == pytest.approx(100, abs=5)
    assert set(entry) >= {"name", "path", "sha256", "bytes", "profile", "how", "who", "where", "when", "what"}


@pytest.mark.parametrize(
    "said", ["", "sha256= bytes=3 clock=1 missing=", f"sha256={'0' * 64} bytes=3 clock=1 missing="]
)
def test_what_does_not_hash_as_it_was_sent_is_not_kept(said: str) -> None:
    store, _, entry = collect(said)
    assert "take it again" in str(entry["error"])
    assert store.items == {}


@pytest.mark.parametrize("clock", ["", "now", "nan", "inf", "1e999", "--"])
def test_a_host_that_says_no_time_does_not_stop_it(clock: str) -> None:
    _, _, entry = collect(f"sha256={SHA} bytes=3 clock={clock} missing=")
    assert entry["clock_offset_s"] is None


def test_the_snapshot_is_bounded_on_the_host() -> None:
    _, shell, _ = collect(f"sha256={SHA} bytes=3 clock=1 missing=", "snapshot")
    assert shell.calls[0][1] == ("snapshot", "--seconds", "0.25")


def test_evidence_that_changes_in_the_store_is_noticed_at_once() -> None:
    params, store = CollectParams(host="web-1"), FakeEvidence()
    said = f"sha256={SHA} bytes=3 clock=1 missing=".encode()
    about = context(shell=FakeShell({"evidence.sh volatile": Completed(0, CONTENT, said, 0.1)}), evidence=store)
    applied = COLLECT.apply(COLLECT.plan(params, {})[0], about)
    store.items[applied["entry"]["path"]] = b"another"
    assert not COLLECT.verify(params, {}, (applied,), about).passed


def test_names_are_plain_and_differ_by_the_microsecond() -> None:
    about = context()
    at = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert item_name(about, "snapshot", at, "tar.gz") == "web-1-snapshot-20260102t030405000006.tar.gz"
