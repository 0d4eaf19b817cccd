"""What an intruder runs ends for good, whatever it forks; its programs are kept first, and nobody else's dies."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from irflow.actions._kill_params import KillParams
from irflow.actions.process_kill_tree import ProcessKillTree
from irflow.core.errors import ConnectionLost, Refused, RemoteFailed
from irflow.lab.attack import stage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.fakes.journal import AppendOnly
from tests.integration.lab_actions import Hands
from tests.services.on_host import on, until

KILL = ProcessKillTree()
SCRIPT = "killtree.sh"
DEN = "/dev/shm/.den"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture
def journal(hands: Hands) -> Iterator[AppendOnly]:
    """Where custody entries go before the kill."""
    made = AppendOnly()
    hands.ports = dataclasses.replace(hands.ports, store=made)  # type: ignore[arg-type]
    yield made
    hands.status.steps.clear()


@pytest.fixture
def host(lab: Lab, journal: AppendOnly) -> Iterator[LabHost]:
    """A host where nothing runs but its own, before and after."""
    one = lab.hosts[0]
    on(lab, one, f"mkdir -p -m 755 {DEN}")
    yield one
    # What a test left running is stopped first: killing one by one loses the race against what forks.
    on(
        lab,
        one,
        "mine() { ps -e -o pid=,args= | awk '/den|mallory|loaf/ && !/awk/ { print $1 }'; }; "
        "for i in 1 2 3; do kill -STOP $(mine) 2>/dev/null || :; done; kill -KILL $(mine) 2>/dev/null || :; "
        f"rm -rf {DEN} /var/lib/irflow; ps -u mallory -o pid= | xargs -r kill -KILL || :",
    )


def copy_of(lab: Lab, host: LabHost, program: str, name: str, *, changed: bool = True) -> str:
    """A copy of a program in the den, with a byte behind it that gives it a hash of its own. Returns the hash."""
    more = f"printf {os.urandom(8).hex()} >>{DEN}/{name};" if changed else ""
    said = on(
        lab, host, f"cp $(command -v {program}) {DEN}/{name}; {more} chmod 755 {DEN}/{name}; sha256sum {DEN}/{name}"
    )
    return said.split()[0]


def start(lab: Lab, host: LabHost, command: str, *arguments: str) -> str:
    """Start a daemon in a session of its own. Returns `PID@START`."""
    line = 'setsid sh -c \'printf "$$\\n" >/run/pid; exec "$@"\' sh "$@" </dev/null >/dev/null 2>&1 & wait $! & '
    line += "while ! [ -s /run/pid ]; do :; done; cat /run/pid; rm /run/pid"
    pid = on(lab, host, f'rm -f /run/pid; set -- {command} "$@"; {line}', args=arguments).strip()
    assert until(lambda: "/run/pid" not in on(lab, host, f"tr '\\0' ' ' </proc/{pid}/cmdline"))
    return mark(lab, host, pid)


def mark(lab: Lab, host: LabHost, pid: str) -> str:
    born = on(lab, host, f"sed 's/.*) //' /proc/{pid}/stat | cut -d' ' -f20").strip()
    return f"{pid}@{born}"


def alive(lab: Lab, host: LabHost, one: str) -> bool:
    pid, _, born = one.partition("@")
    said = on(lab, host, f"sed 's/.*) //' /proc/{pid}/stat 2>/dev/null | cut -d' ' -f1,20 || :").split()
    return bool(said) and said[1] == born and said[0] not in "ZX"


def count(lab: Lab, host: LabHost, word: str) -> int:
    """How many processes have a word in their command line, ended ones apart."""
    found = on(lab, host, f"ps -e -o stat=,args= | awk '$1 !~ /Z/ && /{word}/ && !/awk/'")
    return len(found.splitlines())


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {one.name.removeprefix("evidence/"): archive.extractfile(one) for one in archive if one.isfile()}
        return {name: one.read() for name, one in found.items() if one}


@contextmanager
def kill_fails(hands: Hands) -> Iterator[None]:
    """The process of irflow dies after everything is frozen and on record."""
    real = hands.shell.run

    def run(host, script, args=(), **options):  # type: ignore[no-untyped-def]
        if args[0] == "kill":
            raise ConnectionLost("cut", where=host.name)
        return real(host, script, args, **options)

    hands.shell.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        del hands.shell.run


# ---------------------------------------------------------------- from the attacker's side


def test_the_beacon_falls_silent_its_deleted_program_is_kept_and_the_intruder_is_out(
    lab: Lab, hands: Hands, host: LabHost, journal: AppendOnly
) -> None:
    with stage(lab, host) as attack:
        pid = on(lab, host, f"pgrep -o -f {attack.implant}").split()[0]
        real = on(lab, host, f"sha256sum </proc/{pid}/exe").split()[0]
        assert attack.beacon_seen_since(time.monotonic(), 5)
        assert attack.session_alive()
        changes, proof = hands.run(KILL, host.name, paths=[attack.implant])
        killed_at = time.monotonic()
        assert proof.passed, proof
        assert not attack.beacon_seen_since(killed_at, 1.0)
        assert not attack.session_alive(0.5)
        assert attack.can_connect(), "the key still works: that is another action's business"
    assert f"{pid} (started 20" in changes[0].summary
    assert f"{attack.implant} (deleted)" in changes[0].summary
    (entry,) = journal.custody
    found = members(hands.evidence.get(entry["path"]))
    assert real in entry["programs"]
    assert found[f"programs/{real}"][:4] == b"\x7fELF"
    assert f"{real}  ./programs/{real}" in found["MANIFEST"].decode()
    assert b"use Socket" in found[f"{pid}/command"]
    assert hands.run(KILL, host.name, paths=[attack.implant], watch=0.1)[0] == ()


def test_the_entry_is_in_the_journal_and_all_is_frozen_before_anything_is_killed(
    lab: Lab, hands: Hands, host: LabHost, journal: AppendOnly
) -> None:
    copy_of(lab, host, "sleep", "one")
    one = start(lab, host, f"{DEN}/one", "300")
    with kill_fails(hands), pytest.raises(ConnectionLost):
        hands.run(KILL, host.name, pids=[one])
    assert len(journal.custody) == 1
    assert on(lab, host, f"ps -o stat= -p {one.partition('@')[0]}").startswith("T")
    changes, proof = hands.run(KILL, host.name, pids=[one], watch=0.1)
    assert len(changes) == 1
    assert proof.passed
    assert not alive(lab, host, one)


def test_what_a_cut_off_kill_left_frozen_is_found_again_although_its_root_is_gone(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    root = start(
        lab, host, "sh -c", "setsid perl -e 'sleep 300' den.301 & setsid perl -e 'sleep 300' den.302 & wait; :"
    )
    assert until(lambda: count(lab, host, "[0] den.30[12]") >= 2)
    with kill_fails(hands), pytest.raises(ConnectionLost):
        hands.run(KILL, host.name, pids=[root])
    assert set(
        on(lab, host, "ps -e -o stat=,args= | awk '/den.30[12]/ && !/awk/ { print substr($1, 1, 1) }'").split()
    ) == {"T"}
    on(lab, host, f"kill -KILL {root.partition('@')[0]}")
    changes, proof = hands.run(KILL, host.name, pids=[root], watch=0.1)
    assert len(changes) == 1
    assert proof.passed, proof
    assert count(lab, host, "[0] den.30[12]") == 0


# ---------------------------------------------------------------- what must not escape


def test_a_fork_bomb_is_frozen_as_a_whole_and_killed(lab: Lab, hands: Hands, host: LabHost) -> None:
    bomb = f"exec prlimit --nproc=150 {DEN}/bomb -e 'while (1) {{ fork; select undef, undef, undef, 0.005 }}'"
    copy_of(lab, host, "perl", "bomb", changed=False)
    on(lab, host, 'setsid su mallory -s /bin/sh -c "$1" </dev/null >/dev/null 2>&1 &', args=[bomb])
    assert until(lambda: count(lab, host, "den.bomb") > 100)
    _, proof = hands.run(KILL, host.name, paths=[f"{DEN}/bomb"], watch=0.3, record=True)
    assert proof.passed, proof
    assert proof.facts["killed"] > 100
    assert proof.facts["stable"]
    assert count(lab, host, "den.bomb") == 0


def test_a_process_that_always_moves_on_to_a_new_pid_and_session_is_caught_by_its_program(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    hop = "use POSIX; while (1) { exit if fork; POSIX::setsid(); select undef, undef, undef, 0.03 }"
    program = copy_of(lab, host, "perl", "hopper")
    on(lab, host, f'setsid {DEN}/hopper -e "$1" </dev/null >/dev/null 2>&1 &', args=[hop])
    assert until(lambda: count(lab, host, "den.hopper") > 0)
    _, proof = hands.run(KILL, host.name, hashes=[program.upper()], watch=0.3)
    assert proof.passed, proof
    assert count(lab, host, "den.hopper") == 0


def test_a_daemon_that_forked_twice_into_a_session_of_its_own_goes_with_its_sibling(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    copy_of(lab, host, "sleep", "twin")
    one = start(lab, host, f"{DEN}/twin", "311")
    other = start(lab, host, f"{DEN}/twin", "312")
    innocent = start(lab, host, "perl -e", "sleep 300", "loaf.313")
    on(lab, host, f"rm {DEN}/twin")
    changes, proof = hands.run(KILL, host.name, pids=[one], reach="tree", watch=0.1)
    assert changes[0].data["count"] == 1
    assert proof.checks[0].passed
    assert not alive(lab, host, one)
    assert not proof.passed, "the other one is what came back, as far as anybody can tell"
    changes, proof = hands.run(KILL, host.name, pids=[other], reach="session", watch=0.1)
    assert proof.passed, proof
    assert alive(lab, host, innocent)


def test_copies_are_found_by_hash_wherever_they_lie_or_lay_and_the_original_is_left_alone(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    program = copy_of(lab, host, "sleep", "a")
    on(lab, host, f"cp {DEN}/a '{DEN}/b c'")
    spread = [start(lab, host, f"{DEN}/a", "321"), start(lab, host, f"'{DEN}/b c'", "322")]
    innocent = start(lab, host, "perl -e", "sleep 300", "loaf.323")
    on(lab, host, f"rm '{DEN}/b c'")
    changes, proof = hands.run(KILL, host.name, hashes=[program], watch=0.1)
    assert changes[0].data["processes"] == sorted(spread, key=lambda one: int(one.partition("@")[0]))
    assert proof.passed, proof
    assert not any(alive(lab, host, one) for one in spread)
    assert alive(lab, host, innocent)


@pytest.mark.parametrize("how", ["absolute", "relative"])
def test_a_script_is_found_by_its_path_whatever_bytes_are_in_it(
    lab: Lab, hands: Hands, host: LabHost, how: str
) -> None:
    name = f"{DEN}/odd *\n\\name"
    on(lab, host, 'cat >"$1"; chmod 755 "$1"', args=[name], stdin=b"#!/bin/sh\nwhile :; do sleep 0.05; done\n")
    started = (
        start(lab, host, "", name)
        if how == "absolute"
        else start(lab, host, f"env -C {DEN}", "./" + name.rpartition("/")[2])
    )
    innocent = start(lab, host, "sh -c", "while :; do sleep 0.05; done # loaf")
    text = "base64url:" + base64.urlsafe_b64encode(name.encode()).decode()
    _, proof = hands.run(KILL, host.name, paths=[text], watch=0.1)
    assert proof.passed, proof
    assert not alive(lab, host, started)
    assert alive(lab, host, innocent)


def test_a_control_group_goes_as_a_whole_unless_only_sessions_are_meant(lab: Lab, hands: Hands, host: LabHost) -> None:
    name = f"irflow-test-{os.getpid()}.scope"
    on(lab, host, f"mkdir -p /run/cg; mount -t cgroup2 none /run/cg; mkdir /run/cg/{name}")
    try:
        one, other = (
            start(lab, host, "perl -e", "sleep 300", "den.331"),
            start(lab, host, "perl -e", "sleep 300", "den.332"),
        )
        for each in (one, other):
            on(lab, host, f"echo {each.partition('@')[0]} >/run/cg/{name}/cgroup.procs")
        assert hands.run(KILL, host.name, pids=[one], reach="session", watch=0.1)[1].passed
        assert alive(lab, host, other)
        third = start(lab, host, "perl -e", "sleep 300", "den.333")
        on(lab, host, f"echo {third.partition('@')[0]} >/run/cg/{name}/cgroup.procs")
        changes, proof = hands.run(KILL, host.name, pids=[third], watch=0.1)
        assert changes[0].data["count"] == 2
        assert proof.passed
        assert not alive(lab, host, other)
    finally:
        on(lab, host, f"for p in $(cat /run/cg/{name}/cgroup.procs); do kill -KILL $p; done; "
                      f"until rmdir /run/cg/{name}; do :; done; umount /run/cg; rmdir /run/cg")  # fmt: skip


# ---------------------------------------------------------------- what must not die


def test_a_pid_that_is_another_process_by_now_is_left_alone(lab: Lab, hands: Hands, host: LabHost) -> None:
    innocent = start(lab, host, "perl -e", "sleep 300", "loaf.341")
    pid, _, born = innocent.partition("@")
    changes, proof = hands.run(KILL, host.name, pids=[f"{pid}@{int(born) - 1}"], watch=0.1)
    assert changes == ()
    assert proof.passed
    late = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600))
    assert hands.run(KILL, host.name, pids=[f"{pid}@{late}"], watch=0.1)[0] == ()
    assert alive(lab, host, innocent)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert hands.run(KILL, host.name, pids=[f"{pid}@{now}"], watch=0.1)[1].passed
    assert not alive(lab, host, innocent)


def test_below_a_service_only_its_children_die(lab: Lab, hands: Hands, host: LabHost) -> None:
    service = start(
        lab,
        host,
        "sh -c",
        "perl -e 'sleep 300' den.351 & perl -e 'sleep 300' den.352 & while :; do sleep 1; done # loaf",
    )
    assert until(lambda: count(lab, host, "[0] den.35[12]") == 2)
    changes, proof = hands.run(KILL, host.name, children_of=[service], watch=0.1)
    assert changes[0].data["count"] >= 2
    assert alive(lab, host, service)
    assert count(lab, host, "[0] den.35[12]") == 0
    assert proof.checks[0].passed


def test_the_way_in_is_never_killed(lab: Lab, hands: Hands, host: LabHost) -> None:
    listener = on(lab, host, "cat /run/sshd.pid").strip()
    shell = on(lab, host, "sha256sum $(readlink -f /bin/sh)").split()[0]
    for params in ({"pids": [mark(lab, host, listener)]}, {"paths": ["/usr/sbin/sshd"]}, {"hashes": [shell]}):
        with pytest.raises(RemoteFailed, match=r"never touched: .* carries the responder's way in") as caught:
            hands.run(KILL, host.name, **params)
        assert caught.value.status == 76
    with pytest.raises(ValueError, match="process 1 is never killed"):
        KillParams(host=host.name, pids=("1@5",))
    assert alive(lab, host, mark(lab, host, listener))


def test_more_than_was_agreed_is_not_touched(lab: Lab, hands: Hands, host: LabHost) -> None:
    root = start(lab, host, "sh -c", "perl -e 'sleep 300' den.361 & perl -e 'sleep 300' den.362 & wait; :")
    assert until(lambda: count(lab, host, "[0] den.36[12]") == 2)
    with pytest.raises(Refused, match="3 processes belong to it, more than the 2 that may be killed"):
        hands.run(KILL, host.name, pids=[root], most=2)
    assert on(lab, host, f"ps -o stat= -p {root.partition('@')[0]}").startswith("S")


def test_a_late_writer_freezes_and_kills_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    one = start(lab, host, "perl -e", "sleep 300", "den.371")
    context = hands.context(KILL, host.name, epoch=20)
    params = KillParams(host=host.name, pids=(one,), watch=0.1)
    (change,) = KILL.plan(params, KILL.observe(params, context))
    with kill_fails(hands), pytest.raises(ConnectionLost):
        KILL.apply(change, context)
    on(lab, host, f"kill -CONT {one.partition('@')[0]}")
    with pytest.raises(RemoteFailed, match="epoch 19 is over: 20") as caught:
        KILL.apply(change, hands.context(KILL, host.name, epoch=19))
    assert caught.value.status == 75
    assert on(lab, host, f"ps -o stat= -p {one.partition('@')[0]}").startswith("S")


# ---------------------------------------------------------------- the proof


def test_what_is_started_again_fails_the_proof_and_says_by_whom(lab: Lab, hands: Hands, host: LabHost) -> None:
    copy_of(lab, host, "sleep", "again")
    keeper = start(lab, host, "perl -e", f"while (1) {{ system '{DEN}/again', 60 }} # den")
    assert until(lambda: count(lab, host, f"^S.* {DEN.replace('/', '.')}.again 60") == 1)
    child = on(lab, host, f"pgrep -P {keeper.partition('@')[0]}").split()[0]
    _, proof = hands.run(KILL, host.name, pids=[mark(lab, host, child)], reach="tree", watch=5)
    assert proof.failed == ("nothing of it comes back within 5 s",)
    assert f"started by {keeper.partition('@')[0]} (perl)" in proof.checks[1].after
    _, proof = hands.run(KILL, host.name, paths=[f"{DEN}/again"], watch=0.3)
    assert proof.passed, "its session holds the keeper too"


def test_the_record_holds_files_and_names_but_no_value_of_the_environment(
    lab: Lab, hands: Hands, host: LabHost, journal: AppendOnly
) -> None:
    canary = f"hunter2-{os.urandom(8).hex()}"
    on(lab, host, f"echo '# left behind' >{DEN}/loot")
    one = start(
        lab, host, f"env API_TOKEN={canary} sh -c", f"exec 7<{DEN}/loot; rm {DEN}/loot; perl -e 'sleep 300' den.381; :"
    )
    pid = one.partition("@")[0]
    assert until(lambda: "loot (deleted)" in on(lab, host, f"ls -l /proc/{pid}/fd"))
    changes, proof = hands.run(KILL, host.name, pids=[one], watch=0.1)
    content = hands.evidence.get(journal.custody[0]["path"])
    found = members(content)
    assert b"API_TOKEN" in found[f"{pid}/environment_names"]
    assert not [name for name, text in found.items() if canary.encode() in text]
    assert canary not in repr((changes, proof))
    assert found[f"{pid}/open.7"] == b"# left behind\n"
    assert b"sshd" in found["all_processes"]
    assert any(name.startswith("network.") for name in found)


def test_looking_changes_nothing_and_leaves_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    one = start(lab, host, "perl -e", "sleep 300", "den.391")
    before = lab.diff(host)
    params = KillParams(host=host.name, pids=(one,))
    assert KILL.observe(params, hands.context(KILL, host.name, epoch=0))["count"] == 1
    assert lab.diff(host) == before
    assert on(lab, host, "ls -A /dev/shm /run | grep irflow || :") == ""
    assert on(lab, host, f"ps -o stat= -p {one.partition('@')[0]}").startswith("S")
