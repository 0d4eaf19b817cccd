"""What everybody may rely on in a backup repository: restic's and the fake of the unit tests keep it."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from irflow.adapters.catalog import load_settings
from irflow.core.backups import Backups, Stored
from irflow.core.errors import ConfigurationError, IrflowError, RepositoryLocked, ServiceMissing
from irflow.wiring import backup_repository
from tests.fakes.backups import FakeBackups

WAIT_S = 30.0


def tar_of(names: list[str], size: int = 100) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = size
            tar.addfile(member, io.BytesIO(b"\n" * size))
    return packed.getvalue()


def save(backups: Backups, key: str, content: bytes, *, complete: bool = True) -> None:
    with backups.save(key, "/web-1/f.tar", host="web-1", tags=["IR-2026-0001", "a,b"], timeout_s=WAIT_S) as saving:
        for start in range(0, len(content), 60_000):
            saving.write(content[start : start + 60_000])
        if complete:
            saving.complete(hashlib.sha256(content).hexdigest(), {"changed": ["/etc/a"]})


def only(backups: Backups, key: str) -> Stored:
    (one,) = backups.find([key], timeout_s=WAIT_S)
    return one


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(params=["restic", "fake"])
def backups(request: pytest.FixtureRequest, home: Path) -> Backups:
    return FakeBackups() if request.param == "fake" else backup_repository(load_settings(home))


# ------------------------------------------------------------------ both


def test_nothing_is_found_where_nothing_was_saved(backups: Backups) -> None:
    assert backups.find(["none"], timeout_s=WAIT_S) == ()


def test_what_was_completed_is_found_whole_with_its_facts_and_comes_back(backups: Backups) -> None:
    content = tar_of(["a", "b", "c"], 70_000)
    save(backups, "k1", content)
    save(backups, "k2", b"other")
    one = only(backups, "k1")
    assert one.whole
    assert (one.key, one.name, one.bytes) == ("k1", "/web-1/f.tar", len(content))
    assert one.sha256 == hashlib.sha256(content).hexdigest()
    assert backups.details(one, timeout_s=WAIT_S)["changed"] == ["/etc/a"]
    read = backups.read_back(one, "tar", timeout_s=WAIT_S)
    assert (read.sha256, read.bytes, read.listable) == (one.sha256, len(content), True)
    assert read.entries
    with pytest.raises(ValueError, match="kept"):
        backups.forget([one], timeout_s=WAIT_S)


def test_what_was_not_completed_does_not_count(backups: Backups) -> None:
    save(backups, "k3", tar_of(["a"]), complete=False)
    assert [one for one in backups.find(["k3"], timeout_s=WAIT_S) if one.whole] == []


def test_an_error_while_saving_is_passed_on_and_nothing_counts(backups: Backups) -> None:
    with pytest.raises(RuntimeError), backups.save("k4", "/x/y", host="x", tags=[], timeout_s=WAIT_S) as saving:
        saving.write(b"some")
        raise RuntimeError
    assert [one for one in backups.find(["k4"], timeout_s=WAIT_S) if one.whole] == []


# ------------------------------------------------------------------ restic


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    """The same home, whose repository exists."""
    save(backup_repository(load_settings(home)), "made", b"x\n")
    return home


def restic(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """An operator's own restic."""
    argv = ["restic", "-r", str(folder / "backups"), "--password-file", str(folder / "keys/backup.password")]
    return subprocess.Popen(
        [*argv, "--no-cache", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def locks(folder: Path) -> list[str]:
    return [one for one in os.listdir(folder / "backups/locks") if "-tmp-" not in one]


def restic_of_ours() -> psutil.Process:
    """The one that is at work for us, once it has begun."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = [one for one in psutil.Process().children() if one.name() == "restic"]
        if found:
            return found[0]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def until_locked(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not locks(folder):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.0005)


@pytest.fixture
def holder(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A restic that has locked the repository for itself alone, and is stopped there."""
    process = restic(folder, "check", "--read-data")
    try:
        until_locked(folder, process)
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()
        restic(folder, "unlock").communicate()


def test_the_first_use_makes_the_repository_and_a_password_that_only_we_can_read(folder: Path) -> None:
    password = folder / "keys/backup.password"
    assert password.stat().st_mode & 0o777 == 0o600
    assert len(password.read_text().strip()) >= 32
    assert (folder / "backups/config").exists()
    assert locks(folder) == []


def test_a_stream_that_was_left_leaves_neither_snapshot_nor_lock_nor_process(folder: Path) -> None:
    save(backup_repository(load_settings(folder)), "left", os.urandom(2_000_000), complete=False)
    assert backup_repository(load_settings(folder)).find(["left"], timeout_s=WAIT_S) == ()
    assert locks(folder) == []
    assert [one for one in psutil.Process().children(recursive=True) if one.name() == "restic"] == []


def test_a_stream_that_is_left_early_leaves_no_lock_either(folder: Path) -> None:
    backups = backup_repository(load_settings(folder))
    with backups.save("early", "/x/y", host="x", tags=[], timeout_s=WAIT_S) as saving:
        saving.write(b"some")
        deadline = time.monotonic() + WAIT_S
        while not locks(folder) and time.monotonic() < deadline:
            time.sleep(0.001)
    assert locks(folder) == []


def test_a_lock_whose_number_is_a_strangers_now_is_left_alone(folder: Path, holder: subprocess.Popen[bytes]) -> None:
    """`restic unlock` would end the stranger."""
    repository = backup_repository(load_settings(folder))
    holder.kill()
    holder.wait()
    stranger = psutil.Process().name()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("irflow.adapters.backup_restic.locks._name", lambda lock: stranger)
        with pytest.raises(RepositoryLocked) as caught:
            save(repository, "stranger", bytes(3_000_000))
    assert not caught.value.cleared
    assert len(locks(folder)) == 1


def test_neither_password_nor_location_stand_in_an_argument_or_in_the_environment(folder: Path) -> None:
    password = (folder / "keys/backup.password").read_text().strip()
    with backup_repository(load_settings(folder)).save("seen", "/x/y", host="x", tags=[], timeout_s=WAIT_S) as saving:
        saving.write(b"some")
        child = restic_of_ours()
        for file in ("cmdline", "environ"):
            shown = Path(f"/proc/{child.pid}/{file}").read_bytes()
            assert password.encode() not in shown
            assert f"{folder}/backups".encode() not in shown


def test_a_partial_snapshot_is_known_as_such_and_can_be_forgotten(folder: Path) -> None:
    backups = backup_repository(load_settings(folder))
    tags = "irflow,key=part,part=stream"
    half = restic(folder, "backup", "--stdin", "--stdin-filename", "/web-1/f.tar", "--tag", tags)
    out, _ = half.communicate(b"the half of it")
    one = only(backups, "part")
    assert not one.whole, out
    assert backups.forget([one], timeout_s=WAIT_S)
    assert backups.find(["part"], timeout_s=WAIT_S) == ()


def test_a_wrong_password_is_said_and_what_to_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    (tmp_path / "wrong").chmod(0o600)
    (tmp_path / "irflow.yaml").write_text(f"backup: {{repository: {folder}/backups, password: 'file:wrong'}}\n")
    backups = backup_repository(load_settings(tmp_path))
    with pytest.raises(ConfigurationError, match="does not open") as caught:
        backups.find(["k1"], timeout_s=WAIT_S)
    assert "backup.password" in caught.value.hint
    with pytest.raises(ConfigurationError, match="does not open"):
        save(backups, "k1", bytes(3_000_000))


def test_a_password_that_is_gone_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "irflow.yaml").write_text(f"backup: {{repository: {folder}/backups}}\n")
    with pytest.raises(ConfigurationError, match="is gone"):
        save(backup_repository(load_settings(tmp_path)), "k1", b"x")
    assert not (tmp_path / "keys/backup.password").exists()


def test_the_lock_of_a_dead_process_of_ours_is_taken_away(folder: Path, holder: subprocess.Popen[bytes]) -> None:
    backups = backup_repository(load_settings(folder))
    holder.kill()
    holder.wait()
    with pytest.raises(RepositoryLocked, match="dead process") as caught:
        save(backups, "locked", bytes(3_000_000))
    assert caught.value.cleared
    assert locks(folder) == []
    save(backups, "locked", b"x\n")
    assert only(backups, "locked").whole


def test_the_lock_of_a_process_that_lives_is_left_alone_and_its_holder_named(
    folder: Path, holder: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(RepositoryLocked, match=f"process {holder.pid} on ") as caught:
        save(backup_repository(load_settings(folder)), "locked2", bytes(3_000_000))
    assert not caught.value.cleared
    assert len(locks(folder)) == 1
    partial = Stored("0" * 64, "/x", "k", "2026-01-01T00:00:00Z")
    assert not backup_repository(load_settings(folder)).forget([partial], timeout_s=WAIT_S)
    assert holder.poll() is None


def test_what_must_stay_free_stays_free(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "irflow.yaml").write_text("backup: {keep_free_mb: 100000000000}\n")
    with pytest.raises(IrflowError, match="kept free") as caught:
        save(backup_repository(load_settings(tmp_path)), "k1", b"x")
    assert "backup.repository" in caught.value.hint


def test_a_restic_that_does_not_take_its_input_ends_at_the_deadline(folder: Path) -> None:
    backups = backup_repository(load_settings(folder))
    started = time.monotonic()
    with (
        pytest.raises(IrflowError, match="ended after 2 s"),
        backups.save("slow", "/x/y", host="x", tags=[], timeout_s=2) as saving,
    ):
        child = restic_of_ours()
        child.suspend()
        try:
            saving.write(bytes(10_000_000))
        finally:
            child.resume()
    assert time.monotonic() - started < 25, "far below what the 10 MB would have waited for: for ever"


def test_without_restic_the_error_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
    with pytest.raises(ServiceMissing, match="restic is not installed") as caught:
        save(backup_repository(load_settings(folder)), "k1", b"x")
    assert "apt-get install restic" in caught.value.hint
