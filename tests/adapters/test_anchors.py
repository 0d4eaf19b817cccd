"""Signed heads outside the database."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from irflow.adapters.anchors import SignedAnchors, open_anchors
from irflow.core.errors import JournalError
from irflow.core.journal import Anchor, canonical

AT = "2026-03-01T12:00:00.000000Z"
HASH = "a" * 64


@pytest.fixture
def anchors(tmp_path: Path) -> SignedAnchors:
    return open_anchors(tmp_path / "state", tmp_path / "outside")


def test_a_signed_head_is_kept_and_comes_back(anchors: SignedAnchors) -> None:
    first, second = anchors.sign("I", 3, HASH, AT), anchors.sign("I", 9, "b" * 64, AT)
    anchors.sign("system", 1, HASH, AT)
    assert anchors.load("I") == (first, second)
    assert anchors.load("nobody") == ()
    assert anchors.incidents() == ("I", "system")


def test_the_signature_is_ed25519_over_the_canonical_json_of_the_other_fields(
    anchors: SignedAnchors, tmp_path: Path
) -> None:
    anchor = anchors.sign("I", 3, HASH, AT)
    key = load_pem_public_key((tmp_path / "state" / "signing.pub").read_bytes())
    signed = canonical({"incident": "I", "seq": 3, "hash": HASH, "at": AT})
    assert isinstance(key, Ed25519PublicKey)
    key.verify(bytes.fromhex(anchor.signature), signed)


def test_nothing_is_made_before_it_is_needed(anchors: SignedAnchors, tmp_path: Path) -> None:
    assert anchors.load("I") == ()
    assert list(tmp_path.iterdir()) == []


def test_the_key_is_for_its_owner_alone_and_stays_the_same(anchors: SignedAnchors, tmp_path: Path) -> None:
    anchor = anchors.sign("I", 1, HASH, AT)
    key = tmp_path / "state" / "signing.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in key.parent.iterdir()) == ["signing.key", "signing.pub"]
    again = open_anchors(tmp_path / "state", tmp_path / "outside")
    again.sign("I", 2, HASH, AT)
    assert again.load("I")[0] == anchor


def test_first_use_by_many_at_once_makes_one_key(tmp_path: Path) -> None:
    def sign(number: int) -> Anchor:
        return open_anchors(tmp_path / "state", tmp_path / "outside").sign("I", number, HASH, AT)

    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(sign, range(1, 17)))
    assert set(open_anchors(tmp_path / "state", tmp_path / "outside").load("I")) == made


def test_a_key_that_others_can_read_is_refused(anchors: SignedAnchors, tmp_path: Path) -> None:
    anchors.sign("I", 1, HASH, AT)
    (tmp_path / "state" / "signing.key").chmod(0o640)
    with pytest.raises(JournalError, match="chmod 600"):
        open_anchors(tmp_path / "state", tmp_path / "outside").sign("I", 2, HASH, AT)


def test_the_public_key_alone_verifies(anchors: SignedAnchors, tmp_path: Path) -> None:
    anchor = anchors.sign("I", 1, HASH, AT)
    (tmp_path / "state" / "signing.key").unlink()
    assert open_anchors(tmp_path / "state", tmp_path / "outside").load("I") == (anchor,)


def test_a_replaced_public_key_is_noticed(anchors: SignedAnchors, tmp_path: Path) -> None:
    anchors.sign("I", 1, HASH, AT)
    other = open_anchors(tmp_path / "other", tmp_path / "elsewhere")
    other.sign("I", 1, HASH, AT)
    (tmp_path / "state" / "signing.pub").write_bytes((tmp_path / "other" / "signing.pub").read_bytes())
    with pytest.raises(JournalError, match=r"event 1 .* is wrong"):
        open_anchors(tmp_path / "state", tmp_path / "outside").load("I")
    with pytest.raises(JournalError, match="does not belong"):
        open_anchors(tmp_path / "state", tmp_path / "outside").sign("I", 2, HASH, AT)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seq", 8), ("hash", "c" * 64), ("at", "2027-01-01T00:00:00.000000Z"), ("signature", "00" * 64), ("seq", "9")],
)
def test_a_changed_anchor_is_named(anchors: SignedAnchors, tmp_path: Path, field: str, value: object) -> None:
    anchors.sign("I", 3, HASH, AT)
    anchors.sign("I", 9, HASH, AT)
    file = tmp_path / "outside" / "I.jsonl"
    lines = file.read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {field: value})
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(JournalError, match="line 2") as caught:
        anchors.load("I")
    assert "line 1" not in str(caught.value)


def test_an_anchor_of_another_incident_is_refused(anchors: SignedAnchors, tmp_path: Path) -> None:
    anchors.sign("I", 3, HASH, AT)
    (tmp_path / "outside" / "J.jsonl").write_bytes((tmp_path / "outside" / "I.jsonl").read_bytes())
    with pytest.raises(JournalError, match="an anchor of 'I'"):
        anchors.load("J")


def test_a_line_torn_by_a_crash_was_never_kept_and_hurts_nothing(anchors: SignedAnchors, tmp_path: Path) -> None:
    first = anchors.sign("I", 3, HASH, AT)
    file = tmp_path / "outside" / "I.jsonl"
    with file.open("ab") as torn:
        torn.write(b'{"at":"2026')
    assert anchors.load("I") == (first,)
    second = anchors.sign("I", 4, HASH, AT)
    assert anchors.load("I") == (first, second)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "-x", "a\n", "x" * 65])
def test_a_name_can_never_become_another_path(anchors: SignedAnchors, name: str) -> None:
    with pytest.raises(JournalError, match="cannot name"):
        anchors.sign(name, 1, HASH, AT)
