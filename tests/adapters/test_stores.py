"""Evidence and documents on disk: written once, never changed, never outside their folder."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from irflow.adapters.document_store import FileDocumentStore
from irflow.adapters.evidence_store import FileEvidenceStore
from irflow.core.errors import IrflowError

INCIDENT = "01JNBC2D4E5F6G7H8J9KMNPQRS"


@pytest.fixture
def store(tmp_path: Path) -> FileEvidenceStore:
    return FileEvidenceStore(tmp_path / "evidence")


def test_evidence_is_kept_private_and_read_only_with_its_hash(store: FileEvidenceStore, tmp_path: Path) -> None:
    stored = store.put(INCIDENT, "web-1-snapshot.tar.gz", b"bytes")
    path = tmp_path / "evidence" / stored.path
    assert stored.path == f"{INCIDENT}/web-1-snapshot.tar.gz"
    assert (stored.sha256, stored.bytes) == (hashlib.sha256(b"bytes").hexdigest(), 5)
    assert store.get(stored.path) == b"bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert {stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path.parent.parent)} == {0o700}
    assert path.stat().st_nlink == 1


def test_the_same_content_again_is_no_error_and_other_content_is(store: FileEvidenceStore) -> None:
    first = store.put(INCIDENT, "a", b"one")
    assert store.put(INCIDENT, "a", b"one") == first
    with pytest.raises(IrflowError, match="exists with other content"):
        store.put(INCIDENT, "a", b"two")
    assert store.get(first.path) == b"one"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/etc/passwd", ".hidden", "-rf", "A", "a b", "a\0b", "a\nb", "ä", "a" * 201]
)
def test_names_that_are_not_plain_are_refused(store: FileEvidenceStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(IrflowError, match="cannot be the name of evidence"):
        store.put(INCIDENT, name, b"x")
    assert not list(tmp_path.rglob("*x*"))


@pytest.mark.parametrize("incident", ["", "..", "../x", "a/b", "/tmp", ".x", "-x", "a" * 65])
def test_incidents_that_are_not_plain_are_refused(store: FileEvidenceStore, incident: str) -> None:
    with pytest.raises(IrflowError):
        store.put(incident, "a", b"x")
    with pytest.raises(IrflowError):
        store.get(f"{incident}/a")


def test_a_folder_that_was_made_a_link_is_not_followed(store: FileEvidenceStore, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / INCIDENT).symlink_to(elsewhere)
    with pytest.raises(IrflowError, match="cannot be kept"):
        store.put(INCIDENT, "a", b"x")
    assert not list(elsewhere.iterdir())


def test_an_item_that_was_made_a_link_is_neither_followed_nor_replaced(
    store: FileEvidenceStore, tmp_path: Path
) -> None:
    store.put(INCIDENT, "a", b"x")
    target = tmp_path / "target"
    target.write_bytes(b"other")
    (tmp_path / "evidence" / INCIDENT / "b").symlink_to(target)
    with pytest.raises(IrflowError):
        store.put(INCIDENT, "b", b"y")
    with pytest.raises(IrflowError):
        store.get(f"{INCIDENT}/b")
    assert target.read_bytes() == b"other"


def test_many_writers_of_one_name_give_one_whole_item(store: FileEvidenceStore, tmp_path: Path) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]
    kept: list[bytes] = []

    def write(content: bytes) -> None:
        try:
            store.put(INCIDENT, "a", content)
            kept.append(content)
        except IrflowError:
            pass

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept == [store.get(f"{INCIDENT}/a")]
    assert os.listdir(tmp_path / "evidence" / INCIDENT) == ["a"]


def test_a_full_disk_is_an_error_that_leaves_nothing_half_written(
    store: FileEvidenceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store.put(INCIDENT, "before", b"x")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IrflowError, match="No space left on device"):
        store.put(INCIDENT, "a", b"x")
    assert os.listdir(tmp_path / "evidence" / INCIDENT) == ["before"]


def test_content_and_folder_are_synced_before_put_returns(
    store: FileEvidenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store.put(INCIDENT, "a", b"x")
    assert synced[-2:] == ["file", "folder"]


def test_the_newest_item_is_found_by_its_prefix(store: FileEvidenceStore, tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "baseline"
    for number, name in enumerate(("web-1-b", "web-1-a", "web-10-c")):
        store.put("baseline", name, b"x")
        os.utime(folder / name, ns=(number, number))
    assert store.newest("baseline", "web-1-") == "baseline/web-1-a"
    assert store.newest("baseline", "web-2-") is None
    assert store.newest("nothing", "web-1-") is None


def test_verify_finds_what_was_changed_what_is_missing_and_what_nobody_recorded(
    store: FileEvidenceStore, tmp_path: Path
) -> None:
    folder = tmp_path / "evidence" / INCIDENT
    entries = [vars(store.put(INCIDENT, name, name.encode())) for name in ("good", "flipped", "gone")]
    store.put(INCIDENT, "stray", b"x")
    (folder / "flipped").chmod(0o600)
    (folder / "flipped").write_bytes(b"flipqed")
    (folder / "gone").unlink()
    rows = {row["path"].partition("/")[2]: (row["state"], row["passed"]) for row in store.verify(entries)}
    assert rows == {
        "good": ("intact", True), "flipped": ("changed", False), "gone": ("missing", False),
        "stray": ("unrecorded", True),
    }  # fmt: skip


def test_missing_evidence_is_named(store: FileEvidenceStore) -> None:
    with pytest.raises(IrflowError, match="this evidence is missing"):
        store.get(f"{INCIDENT}/none")


def test_a_new_version_of_a_document_stands_beside_the_old_one(tmp_path: Path) -> None:
    documents = FileDocumentStore(tmp_path)
    paths = [documents.put(INCIDENT, "incident-report", text).path for text in ("one", "two", "two", "one", "three")]
    names = [path.partition("/")[2] for path in paths]
    assert names == [
        "incident-report.md", "incident-report-2.md", "incident-report-2.md", "incident-report.md",
        "incident-report-3.md",
    ]  # fmt: skip
    assert documents.get(paths[0]) == "one"
    assert stat.S_IMODE((tmp_path / paths[0]).stat().st_mode) == 0o400
    with pytest.raises(IrflowError, match="this document is missing"):
        documents.get(f"{INCIDENT}/other.md")


@pytest.mark.parametrize("name", ["../x", "", "X", "a/b"])
def test_a_documents_name_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(IrflowError, match="cannot be the name of document"):
        FileDocumentStore(tmp_path).put(INCIDENT, name + "/", "x")
