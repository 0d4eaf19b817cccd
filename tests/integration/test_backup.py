"""`backup.emergency` on real lab hosts that are cut off: what comes out of the repository is what was on the host."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from irflow.actions.backup_emergency import BackupEmergency
from irflow.actions.host_isolate import HostIsolate
from irflow.adapters.catalog import load_settings
from irflow.core.action import Proof
from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.shipped import shipped
from irflow.wiring import backup_repository
from tests.integration.lab_actions import Hands
from tests.services import engine_process
from tests.services.backup_process import hands_with_backups, start
from tests.services.irflow_site import site, until
from tests.services.postgres import running_postgres

MB = 1 << 20
BIG = 200 * MB

# A tree with everything that a backup likes to lose: odd names, owners, modes, links, holes, attributes.
TREE = r"""
mkdir -p /srv/shop/cache "/srv/odd name"
head -c 2000000 /dev/urandom >/srv/shop/data
printf 'a' >"/srv/odd name/$(printf 'line\nbreak \377 "quoted" -x')"
printf b >/srv/shop/cache/no
ln /srv/shop/data /srv/shop/hard
ln -s ../shop/data /srv/shop/soft
truncate -s 50M /srv/shop/sparse
printf c >/srv/shop/mine; chown 33:34 /srv/shop/mine; chmod 4751 /srv/shop/mine
touch -d '2001-02-03 04:05:06.789 UTC' /srv/shop/mine
mkfifo /srv/shop/pipe
python3 -c 'import os; os.setxattr("/srv/shop/mine", "user.note", b"kept \0 this")'
"""
# One line per thing, the same on both sides; what belongs to a file, hard links among it, only of files.
LOOK = r"""
cd "$1"
find . -printf '%y %m %U:%G %p -> %l\0' | sort -z | tr '\0' '\1'
find . -type f -printf '%n %s %T@ %p\0' | sort -z | tr '\0' '\1'
find . -type f -print0 | sort -z | xargs -0 sha256sum -z | tr '\0' '\1'
python3 -c 'import os; print(os.getxattr("shop/mine", "user.note"))'
"""
IMPORT_DATABASE = """
CREATE TABLE orders (id int PRIMARY KEY, what text, raw bytea);
INSERT INTO orders SELECT n, 'order ' || n, decode(md5(n::text), 'hex') FROM generate_series(1, 20000) n;
CREATE VIEW large AS SELECT * FROM orders WHERE id > 10000;
"""
EXPORT = "COPY (SELECT * FROM orders ORDER BY id) TO STDOUT"
DATABASE = """shop 'x" port=1"""
CONNECT = r"""dbname='shop \'x" port=1'"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(3, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with nothing set up: the repository and its password were made at the first use."""
    home = tmp_path_factory.mktemp("site") / "home"
    with backup_repository(load_settings(home)).save("first", "/x/y", host="x", tags=[], timeout_s=60) as saving:
        saving.write(b"some")
    return home


@pytest.fixture
def hands(lab: Lab, home: Path) -> Iterator[Hands]:
    made = hands_with_backups(lab, home)
    yield made
    made.close()


def sh(lab: Lab, host: LabHost, script: str, *arguments: str) -> bytes:
    done = lab.exec(host, ["sh", "-euc", script, "sh", *arguments], timeout_s=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def restic(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """What anybody does who has the repository and its password, and no irflow."""
    argv = ["restic", "-r", str(home / "backups"), "--password-file", str(home / "keys/backup.password"), "--no-cache"]
    return subprocess.Popen([*argv, *arguments], stdout=subprocess.PIPE)


def snapshots(home: Path, name: str) -> list[dict[str, Any]]:
    listed, _ = restic(home, "snapshots", "--json").communicate()
    return [one for one in json.loads(listed) if one["paths"] == [name]]


def isolated(hands: Hands, host: LabHost) -> None:
    assert hands.run(HostIsolate(), host.name)[1].passed


def failed(proof: Proof) -> dict[str, str]:
    return {one.name: one.after for one in proof.checks if not one.passed}


# ------------------------------------------------------------------ what comes out


def test_the_files_of_a_host_that_is_cut_off_come_out_as_they_were(
    lab: Lab, hands: Hands, home: Path, tmp_path: Path
) -> None:
    host = lab.hosts[0]
    sh(lab, host, TREE)
    isolated(hands, host)
    read_before = sh(lab, host, "stat -c %X /srv/shop/mine")
    _, proof = hands.run(
        BackupEmergency(), host.name, paths=["/srv", "/none", "/etc/hosts"], exclude=["/srv/*/cache/*"]
    )
    assert sh(lab, host, "stat -c %X /srv/shop/mine") == read_before, "reading left a trace"
    assert sh(lab, host, "ls -A /dev/shm") == b""
    assert failed(proof) == {"/none is saved": "it is not there"}
    saved = proof.facts["backups"][0]
    assert (saved["missing"], saved["changed"], saved["left_out"]) == (["/none"], [], [])
    with restic(home, "dump", saved["snapshot"], saved["name"]) as out:
        unpack = ["tar", "-xpf", "-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", str(tmp_path)]
        subprocess.run(unpack, stdin=out.stdout, check=True)
    assert list((tmp_path / "srv/shop/cache").iterdir()) == []
    restored = subprocess.run(["sh", "-euc", LOOK, "sh", tmp_path / "srv"], check=True, stdout=subprocess.PIPE).stdout
    original = sh(lab, host, LOOK, "/srv")
    assert _but_excluded(restored) == _but_excluded(original)
    assert (tmp_path / "srv/shop/sparse").stat().st_blocks < 1000
    assert (tmp_path / "etc/hosts").read_bytes() == sh(lab, host, "cat /etc/hosts")


def _but_excluded(look: bytes) -> list[bytes]:
    return [line for line in look.split(b"\x01") if b"/cache/no" not in line]


def test_the_second_time_there_is_nothing_to_do_and_it_is_proved_again(lab: Lab, hands: Hands, home: Path) -> None:
    host = lab.hosts[0]
    paths = ["/etc/passwd"]
    changes, first = hands.run(BackupEmergency(), host.name, paths=paths)
    assert len(changes) == 1
    changes, again = hands.run(BackupEmergency(), host.name, paths=paths)
    assert changes == ()
    assert again.passed
    assert again.facts == first.facts


@contextmanager
def database(lab: Lab, host: LabHost) -> Iterator[None]:
    """PostgreSQL on a lab host, with a database whose name looks like something else."""
    sh(lab, host, "groupadd -g 70 postgres; useradd -u 70 -g 70 -d / postgres; install -d -o 70 -g 70 /run/postgresql")
    sh(lab, host, """
        bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
        install -d -o 70 -g 70 /var/lib/pg
        cd /
        as() { setpriv --reuid=70 --regid=70 --clear-groups "$@"; }
        as "$bin/initdb" -D /var/lib/pg -A peer --no-locale -E UTF8 --no-sync >/dev/null
        as "$bin/pg_ctl" -D /var/lib/pg -w -s -l /var/lib/pg/log \\
            -o "-c listen_addresses= -c shared_buffers=16MB -c fsync=off" start </dev/null
        echo 'CREATE DATABASE :"name"' | as psql -Xq -v ON_ERROR_STOP=1 -v name="$3" -d postgres
        printf '%s' "$1" | as psql -Xq -v ON_ERROR_STOP=1 -d "$2"
    """, IMPORT_DATABASE, CONNECT, DATABASE)  # fmt: skip
    try:
        yield
    finally:
        sh(lab, host, "kill -INT $(head -n 1 /var/lib/pg/postmaster.pid)")


def test_a_database_of_a_host_that_is_cut_off_can_be_restored_and_holds_the_same(
    lab: Lab, home: Path, tmp_path: Path
) -> None:
    host = lab.hosts[1]
    hands = hands_with_backups(lab, home)
    hands.hosts[host.name] = hands.hosts[host.name].model_copy(update={"user": "ir", "sudo": True})
    try:
        with database(lab, host), running_postgres() as server:
            isolated(hands, host)
            _, proof = hands.run(BackupEmergency(), host.name, databases=[DATABASE, "none"])
            ((what, why),) = failed(proof).items()
            assert what == "the database none is saved"
            assert 'database "none" does not exist' in why
            saved = proof.facts["backups"][0]
            assert saved["entries"] >= 3
            server.execute("CREATE DATABASE restored")
            connect = ["-h", str(server.socket), "-U", "irflow", "-d", "restored"]
            with restic(home, "dump", saved["snapshot"], saved["name"]) as out:
                subprocess.run(["pg_restore", "-O", "-e", *connect], stdin=out.stdout, check=True)
            restored = subprocess.run(
                ["psql", "-XAtq", *connect, "-c", EXPORT], check=True, stdout=subprocess.PIPE
            ).stdout
            name = DATABASE.replace("'", "\\'")
            as_postgres = 'cd /; setpriv --reuid=70 --regid=70 --clear-groups psql -XAtq -d "dbname=\'$1\'" -c "$2"'
            assert restored == sh(lab, host, as_postgres, name, EXPORT)
            assert restored.count(b"\n") == 20000
    finally:
        hands.close()


def test_without_pg_dump_the_files_are_saved_and_the_database_is_named(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[2]
    sh(lab, host, "rm -f /usr/bin/pg_dump /usr/lib/postgresql/*/bin/pg_dump")
    changes, proof = hands.run(BackupEmergency(), host.name, paths=["/etc/passwd"], databases=["shop"])
    assert [one.summary for one in changes] == [
        f"back up /etc/passwd (about 1 kB) of {host.name} into restic"
    ] or changes
    assert len(changes) == 1
    ((what, why),) = failed(proof).items()
    assert what == "the database shop is saved"
    assert "pg_dump is not installed" in why
    assert [one["what"] for one in proof.facts["backups"]] == ["/etc/passwd"]


def test_a_file_that_is_written_to_all_the_time_is_saved_and_named(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[2]
    sh(lab, host, "mkdir -p /srv/live; head -c 30000000 /dev/zero >/srv/live/log")
    writer = "while [ -e /srv/live ]; do echo more >>/srv/live/log; done"
    sh(lab, host, f"setsid sh -c '{writer}' </dev/null >/dev/null 2>&1 &")
    try:
        _, proof = hands.run(BackupEmergency(), host.name, paths=["/srv/live"])
    finally:
        sh(lab, host, "mv /srv/live /srv/gone")  # at once, so that the writer finds nothing to write to
    assert proof.passed, failed(proof)
    assert proof.facts["backups"][0]["changed"] == ["/srv/live/log"]


def test_what_is_larger_than_allowed_is_named_before_and_while_it_is_sent(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[2]
    sh(lab, host, "mkdir -p /srv/grows; head -c 3000000 /dev/urandom >/srv/grows/a")
    changes, proof = hands.run(BackupEmergency(), host.name, paths=["/srv/grows"], max_size="1M")
    assert changes == ()
    assert "more than max_size" in failed(proof)["/srv/grows is saved"]
    action, about = BackupEmergency(), hands.context(BackupEmergency(), host.name)
    params = action.Params(host=host.name, paths=("/srv/grows",), max_size=4_000_000)
    seen = action.observe(params, about)
    sh(lab, host, "head -c 9000000 /dev/urandom >/srv/grows/b")
    applied = tuple(action.apply(one, about) for one in action.plan(params, seen))
    assert "Raise max_size" in failed(action.verify(params, seen, applied, about))["/srv/grows is saved"]
    until(lambda: sh(lab, host, "pgrep -x tar || :") == b"", 10, "tar ends on the host")


# ------------------------------------------------------------------ large, killed, full


def test_after_a_kill_in_the_middle_of_a_large_one_the_next_run_makes_one_good_backup_and_needs_no_memory(
    lab: Lab, hands: Hands, home: Path
) -> None:
    host = lab.hosts[2]
    sh(lab, host, f"mkdir -p /srv/big; head -c {BIG} /dev/urandom >/srv/big/file")
    isolated(hands, host)
    before = _stored_bytes(home)
    killed = start(lab, home, host.name, "/srv/big")
    until(lambda: _stored_bytes(home) > before + 20 * MB or killed.poll() is not None, 60, "some of it is stored")
    restics = [one for one in psutil.Process(killed.pid).children() if one.name() == "restic"]
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert len(restics) == 1
    psutil.wait_procs(restics, timeout=10)
    until(lambda: sh(lab, host, "pgrep -x tar || :") == b"", 10, "tar ends on the host")
    assert list((home / "backups/locks").iterdir()) == []
    assert sh(lab, host, "ls -A /dev/shm") == b""

    with _memory_and_calls(hands, host) as seen:
        changes, proof = hands.run(BackupEmergency(), host.name, paths=["/srv/big"])
    assert len(changes) == 1
    assert proof.passed, failed(proof)
    assert proof.facts["bytes"] > BIG
    assert seen["grown"] < 40 * MB, seen
    assert seen["calls"] > 3
    assert seen["slowest"] < 3, seen
    marked = [one for one in snapshots(home, f"/{host.name}/files.tar") if proof.facts["snapshots"] == [one["id"]]]
    assert len(marked) == 1
    key = next(tag for tag in marked[0]["tags"] if tag.startswith("key="))
    assert [one for one in snapshots(home, f"/{host.name}/files.tar") if key in one["tags"]] == marked
    sh(lab, host, "rm -r /srv/big")


def _stored_bytes(home: Path) -> int:
    return sum(one.stat().st_size for one in (home / "backups/data").glob("*/*"))


@contextmanager
def _memory_and_calls(hands: Hands, host: LabHost) -> Iterator[dict[str, float]]:
    """How much this process grew meanwhile, and how long other calls on the same connection took."""
    process, over = psutil.Process(), threading.Event()
    first = process.memory_info().rss
    seen: dict[str, float] = {"grown": 0, "calls": 0, "slowest": 0}

    def look() -> None:
        while not over.wait(0.2):
            begun = time.monotonic()
            hands.shell.run(hands.hosts[host.name], "facts.sh", timeout_s=20)
            seen["slowest"] = max(seen["slowest"], time.monotonic() - begun)
            seen["calls"] += 1
            seen["grown"] = max(seen["grown"], process.memory_info().rss - first)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield seen
        finally:
            over.set()
            looking.result()


def test_a_full_repository_is_named_and_leaves_nothing_behind(lab: Lab, tmp_path: Path) -> None:
    host, home = lab.hosts[0], tmp_path / "home"
    sh(lab, host, "head -c 40000000 /dev/urandom >/root/random")
    (home / "backups").mkdir(parents=True)
    (home / "irflow.yaml").write_text("backup: {keep_free_mb: 0}\n")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", home / "backups"], check=True)
    hands = hands_with_backups(lab, home)
    try:
        _, proof = hands.run(BackupEmergency(), host.name, paths=["/root/random"])
        assert "disk is full" in failed(proof)["/root/random is saved"]
        assert proof.facts["backups"] == []
        assert list((home / "backups/locks").iterdir()) == []
    finally:
        hands.close()
        subprocess.run(["umount", home / "backups"], check=True)


# ------------------------------------------------------------------ through the engine


def test_in_a_runbook_it_runs_after_the_cut_and_its_facts_are_in_the_journal(
    lab: Lab, home: Path, tmp_path: Path
) -> None:
    host = lab.hosts[1]
    backup = {"repository": str(home / "backups"), "password": f"file:{home}/keys/backup.password"}
    with site(tmp_path / "home", lab, backup=backup) as here:
        (here.home / "runbooks").mkdir()
        runbook = (shipped("runbooks") / "isolate-host.yaml").read_text()
        step = (
            '  - {id: backup, title: Back up, action: backup.emergency, for_each: "{{ hosts }}",\n'
            '     with: {host: "{{ item }}", paths: [/etc/passwd, /home]}, timeout: 5m}\n'
        )
        before, tell, after = runbook.partition("  - id: tell-owner")
        (here.home / "runbooks/isolate-host.yaml").write_text(before + step + tell + after)
        incident = here.alert(host.name)
        status, output = engine_process.finish(engine_process.start(here.home, incident))
        assert status == 0, output
        (outcome,) = here.events(incident, Kind.STEP_OUTCOME, "isolate-host.backup")
        assert outcome.data["outcome"] == State.DONE, outcome.data
        (intent,) = here.events(incident, Kind.STEP_INTENT, "isolate-host.backup")
        (cut,) = here.events(incident, Kind.STEP_OUTCOME, "isolate-host.isolate")
        assert cut.seq < intent.seq
        (saved,) = outcome.data["facts"]["backups"]
        with restic(home, "dump", saved["snapshot"], saved["name"]) as out:
            content = subprocess.run(
                ["tar", "-xOf", "-", "./etc/passwd"], stdin=out.stdout, stdout=subprocess.PIPE, check=True
            ).stdout
        assert content == sh(lab, host, "cat /etc/passwd")
        assert here.verified() == []
