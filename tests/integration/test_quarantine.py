"""A quarantined file is out of everybody's reach and on record; undo brings it back byte for byte, over nothing new."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from irflow import remote
from irflow.actions._quarantine import QuarantineParams
from irflow.actions.file_quarantine import FileQuarantine
from irflow.core.action import Change
from irflow.core.errors import ConnectionLost, Refused, RemoteFailed
from irflow.core.inventory import Host
from irflow.core.ports import Completed, Streamed
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.session import Session
from tests.fakes.journal import AppendOnly
from tests.integration.lab_actions import Hands
from tests.services.on_host import on

QUARANTINE = FileQuarantine()
PLACE = "/var/lib/irflow/quarantine"
DEN = "/home/mallory/den"
IMPLANT = f"{DEN}/implant"


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
    """Where custody entries go before the move."""
    made = AppendOnly()
    hands.ports = dataclasses.replace(hands.ports, store=made)  # type: ignore[arg-type]
    yield made
    hands.status.steps.clear()


@dataclasses.dataclass
class RootShell:
    """Runs scripts on lab hosts with all of root's powers; over SSH a lab host has not that of changing attributes."""

    lab: Lab
    text: bytes

    def run(self, host: Host, script: str, args: Sequence[str] = (), **options: Any) -> Completed:
        assert script == "quarantine.sh"
        argv = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "sh", "-s", "--", *args]
        done = self.lab.exec(self.lab.host(host.name), argv, stdin=self.text)
        if done.returncode < 0 or done.returncode > 128:
            raise ConnectionLost("killed", where=host.name)
        return Completed(done.returncode, done.stdout, done.stderr, 0.1)

    def stream(self, host: Host, script: str, args: Sequence[str] = (), **options: Any) -> Streamed:
        done = self.run(host, script, args)
        options["sink"](done.stdout)
        return Streamed(
            done.status, len(done.stdout), hashlib.sha256(done.stdout).hexdigest(), done.stderr, done.seconds
        )


@pytest.fixture
def whole_root(lab: Lab, hands: Hands, journal: AppendOnly) -> Hands:
    """As hands, with all of root's powers."""
    made = copy.copy(hands)
    shell: Any = RootShell(lab, remote.text("quarantine.sh"))
    made.ports = dataclasses.replace(hands.ports, shell=shell)
    return made


@pytest.fixture
def host(lab: Lab, journal: AppendOnly) -> Iterator[LabHost]:
    """A host with an implant of mallory's, and clean afterwards."""
    one = lab.hosts[0]
    on(lab, one, f"mkdir -p {DEN}; cat >{IMPLANT}; chown -R mallory:mallory {DEN}; chmod 4711 {IMPLANT}; "
                 f"touch -d '2024-02-29 12:34:56.123456789' {IMPLANT}", b"#!/bin/sh\necho boo\n")  # fmt: skip
    yield one
    on(lab, one, f"chattr -R -ia {DEN} {PLACE} 2>/dev/null || :; rm -rf {DEN} /var/lib/irflow /dev/shm/.q*")


def state(lab: Lab, host: LabHost, path: str) -> str:
    """All that an undo must bring back: content, owner, permissions, times, names, attributes."""
    return on(lab, host, 'sha256sum <"$1"; stat -c "%n %F %a %u:%g %s %y %h" -- "$1"; lsattr -d -- "$1"', args=[path])


def b64(name: str) -> str:
    return "base64url:" + base64.urlsafe_b64encode(name.encode()).decode()


def undo(hands: Hands, host: LabHost, *changes: Change) -> None:
    """As another process would, days later: from the journal alone."""
    for change in reversed(changes):
        proof = QUARANTINE.undo(Change.from_data(change.to_data()), hands.context(QUARANTINE, host.name))
        assert proof.passed, proof


def left(lab: Lab, host: LabHost) -> str:
    """Folders and files of ours outside the quarantine."""
    return on(
        lab, host, "find / -xdev -name '.irflow*' -not -path '/proc/*' 2>/dev/null; ls -A /dev/shm | grep irflow || :"
    )


# ---------------------------------------------------------------- there and back


def test_the_implant_is_out_of_reach_on_record_and_comes_back_byte_for_byte(
    lab: Lab, hands: Hands, host: LabHost, journal: AppendOnly
) -> None:
    before, sha256 = state(lab, host, IMPLANT), hashlib.sha256(b"#!/bin/sh\necho boo\n").hexdigest()
    mallory = Session(lab, host, remote="/bin/sh")
    try:
        assert mallory.ask(IMPLANT, 5) == "boo"
        changes, proof = hands.run(QUARANTINE, host.name, paths=[IMPLANT], sha256={IMPLANT: sha256.upper()})
        assert proof.passed, proof
        assert mallory.ask(f"{IMPLANT} 2>&1; cat {PLACE}/*/*.file 2>&1; ls {PLACE} 2>&1", 5) != "boo"
        assert mallory.ask(f"cat {IMPLANT} {PLACE}/*/* >/dev/null 2>&1; echo $?", 5) == "1"
    finally:
        mallory.close()
    assert sha256 in changes[0].summary
    (entry,) = journal.custody
    assert hands.evidence.get(entry["path"]) == b"#!/bin/sh\necho boo\n"
    assert entry["sha256"] == sha256
    (kept,) = on(lab, host, f"ls {PLACE}/*/*.file").split()
    assert on(lab, host, f"stat -c '%a %s' {kept}; stat -c '%a %u' {PLACE}").split() == ["0", "19", "700", "0"]
    again, proof = hands.run(QUARANTINE, host.name, paths=[IMPLANT])
    assert again == ()
    assert proof.passed, "a second run finds it in quarantine"
    undo(hands, host, *changes)
    assert state(lab, host, IMPLANT) == before
    assert left(lab, host) == ""
    undo(hands, host, *changes)
    assert state(lab, host, IMPLANT) == before


@pytest.mark.parametrize("folder", [DEN, "/dev/shm/.q", "/usr/local/q"], ids=["disk", "memory", "another mount"])
def test_names_of_any_bytes_on_any_mount_come_back(lab: Lab, hands: Hands, host: LabHost, folder: str) -> None:
    name = f"{folder}/-rf *\n \\'\"é"
    make = 'mkdir -p "${1%/*}"; cat >"$1"; chown 1234:4321 "$1"; chmod 2755 "$1"; touch -d @1.5 "$1"'
    on(lab, host, make, b"\0x", args=[name])
    before = state(lab, host, name)
    changes, proof = hands.run(QUARANTINE, host.name, paths=[b64(name)])
    assert proof.passed, proof
    assert on(lab, host, 'if [ -e "$1" ]; then echo there; fi', args=[name]) == ""
    undo(hands, host, *changes)
    assert state(lab, host, name) == before
    on(lab, host, f"rm -rf {folder}")


def test_an_implant_that_guards_itself_with_attributes_goes_and_gets_them_back(
    lab: Lab, whole_root: Hands, host: LabHost
) -> None:
    on(lab, host, f"chattr +i {IMPLANT}")
    before = state(lab, host, IMPLANT)
    changes, proof = whole_root.run(QUARANTINE, host.name, paths=[IMPLANT])
    assert proof.passed, proof
    assert "i" in on(lab, host, f"lsattr {PLACE}/*/*.file").split()[0]
    undo(whole_root, host, *changes)
    assert state(lab, host, IMPLANT) == before


def test_attributes_that_nobody_may_take_away_are_an_error_that_says_so(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, f"chattr +i {IMPLANT}")
    with pytest.raises(RemoteFailed, match=r"its attributes \(i\) cannot be taken away"):
        hands.run(QUARANTINE, host.name, paths=[IMPLANT])


def test_by_hash_every_copy_below_the_roots_is_found_and_nothing_else(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(
        lab,
        host,
        f"mkdir '{DEN}/a b'; cp {IMPLANT} '{DEN}/a b/copy'; echo other >{DEN}/other; ln -s implant {DEN}/link",
    )
    sha256 = on(lab, host, f"sha256sum {IMPLANT}").split()[0]
    changes, proof = hands.run(QUARANTINE, host.name, hashes=[sha256], roots=["/home"])
    assert proof.passed, proof
    assert len(changes) == 2
    assert sorted(on(lab, host, f"find {DEN} -not -type d").split()) == [f"{DEN}/link", f"{DEN}/other"]
    again, proof = hands.run(QUARANTINE, host.name, hashes=[sha256], roots=["/home"])
    assert again == ()
    assert proof.passed, proof
    assert len(proof.facts["files"]) == 2
    undo(hands, host, *changes)
    assert state(lab, host, f"{DEN}/a b/copy").startswith(sha256)


def test_a_file_with_several_names_loses_only_the_one_and_they_are_one_file_again(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    on(lab, host, f"ln {IMPLANT} {DEN}/second")
    before = state(lab, host, IMPLANT)
    changes, proof = hands.run(QUARANTINE, host.name, paths=[IMPLANT])
    assert "1 more names (hard links) of it stay" in changes[0].summary
    assert proof.passed, proof
    assert on(lab, host, f"stat -c %a {DEN}/second") == "4711\n"
    undo(hands, host, *changes)
    assert state(lab, host, IMPLANT) == before
    assert on(lab, host, f"stat -c %i {IMPLANT} {DEN}/second | uniq | wc -l") == "1\n"


def test_what_runs_is_named_and_a_missing_one_fails_while_the_rest_is_taken(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    on(
        lab,
        host,
        f"cp $(command -v sleep) {IMPLANT}.run; {IMPLANT}.run 300 </dev/null >/dev/null 2>&1 & echo $! >/run/q.pid",
    )
    pid = on(lab, host, "cat /run/q.pid").strip()
    try:
        changes, proof = hands.run(QUARANTINE, host.name, paths=[f"{IMPLANT}.run", f"{DEN}/nothing"])
        assert len(changes) == 1
        assert f"runs as {pid} and goes on running" in changes[0].summary
        assert proof.failed == (f"{DEN}/nothing was there to be taken",)
    finally:
        on(lab, host, f"kill -KILL {pid}")


# ---------------------------------------------------------------- only what was planned


def test_what_has_another_hash_than_the_plan_is_left_where_it_is(lab: Lab, hands: Hands, host: LabHost) -> None:
    with pytest.raises(Refused, match="it was changed meanwhile"):
        hands.run(QUARANTINE, host.name, paths=[IMPLANT], sha256={IMPLANT: "0" * 64})
    context = hands.context(QUARANTINE, host.name)
    params = QuarantineParams(host=host.name, paths=(IMPLANT,))
    (change,) = QUARANTINE.plan(params, QUARANTINE.observe(params, context))
    on(lab, host, f"echo more >>{IMPLANT}")
    with pytest.raises(Refused, match="was changed meanwhile: it has SHA-256"):
        QUARANTINE.apply(change, context)
    with pytest.raises(RemoteFailed, match="it was changed meanwhile") as caught:
        call(hands, host, "move", change.data["path"], "--sha256", change.data["before"]["sha256"])
    assert caught.value.status == 65
    assert on(lab, host, f"tail -1 {IMPLANT}") == "more\n"
    assert left(lab, host) == ""


def call(hands: Hands, host: LabHost, verb: str, path: str, *args: str, epoch: str = "999999999999999") -> str:
    every = [verb, "--id", "abc", "--epoch", epoch, "--step", "s", "--path", path, *args]
    return hands.shell.run(hands.hosts[host.name], "quarantine.sh", every, timeout_s=20).text


def test_what_is_exchanged_in_the_last_moment_goes_back(lab: Lab, hands: Hands, host: LabHost) -> None:
    """A crash left the wrong file in the folder beside: the same as one exchanged between the look and the move."""
    path, key = base64.urlsafe_b64encode(IMPLANT.encode()).decode(), hashlib.sha256(IMPLANT.encode()).hexdigest()[:16]
    sha256 = on(lab, host, f"sha256sum {IMPLANT}").split()[0]
    aside = f"{DEN}/.irflow-abc-{key}"
    on(lab, host, f"mkdir -m 700 {aside}; echo innocent >{aside}/file; rm {IMPLANT}")
    with pytest.raises(RemoteFailed, match="exchanged meanwhile: nothing was taken"):
        call(hands, host, "move", path, "--sha256", sha256)
    assert on(lab, host, f"cat {IMPLANT}") == "innocent\n"
    assert left(lab, host) == ""


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (f"{DEN}/link", "is a link, and links are not followed"),
        (DEN, "is a folder"),
        (f"{DEN}/pipe", "is no regular file"),
        ("/usr/sbin/sshd", "the responder's own way in"),
        ("/bin/sh", "links are not followed"),
        ("/usr/bin/dash", "the responder's own way in"),
        ("/etc/passwd", "the responder's own way in"),
        ("/etc/ssh/sshd_config", "the responder's own way in"),
        (f"{DEN}/large", "is larger than max_size"),
    ],
)
def test_what_must_not_or_cannot_be_taken_is_refused_and_nothing_is_touched(
    lab: Lab, hands: Hands, host: LabHost, path: str, said: str
) -> None:
    on(lab, host, f"ln -s /etc/shadow {DEN}/link; mkfifo {DEN}/pipe; head -c 2000 /dev/zero >{DEN}/large")
    with pytest.raises(Refused, match=said):
        hands.run(QUARANTINE, host.name, paths=[IMPLANT, path], max_size=1000 if "large" in path else 1 << 26)
    assert on(lab, host, f"stat -c %a {IMPLANT}") == "4711\n"


def test_the_responders_own_keys_are_never_taken(lab: Lab, hands: Hands, host: LabHost) -> None:
    keys = on(lab, host, "ls /root/.ssh/authorized_keys*").split()[0]
    with pytest.raises(Refused, match="the responder's own way in"):
        hands.run(QUARANTINE, host.name, paths=[keys])


def test_a_folder_behind_a_link_is_found_but_named_as_it_is(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, f"ln -s {DEN} /dev/shm/.qlink")
    changes, proof = hands.run(QUARANTINE, host.name, paths=["/dev/shm/.qlink/implant"])
    assert f"quarantine {IMPLANT} on" in changes[0].summary
    assert proof.passed, proof
    on(lab, host, f"mv {DEN} {DEN}.away; mkdir {DEN}.other; ln -s {DEN}.other {DEN}")
    with pytest.raises(RemoteFailed, match="its folder is not there any more, or another one"):
        undo(hands, host, *changes)
    on(lab, host, f"rm {DEN}; rmdir {DEN}.other; mv {DEN}.away {DEN}")
    undo(hands, host, *changes)


# ---------------------------------------------------------------- undo


def test_undo_never_overwrites_what_is_new_there(lab: Lab, hands: Hands, host: LabHost) -> None:
    before = state(lab, host, IMPLANT)
    changes, _ = hands.run(QUARANTINE, host.name, paths=[IMPLANT])
    on(lab, host, f"echo new >{IMPLANT}")
    with pytest.raises(RemoteFailed, match="something new is in its place and is not overwritten") as caught:
        undo(hands, host, *changes)
    assert caught.value.status == 65
    assert on(lab, host, f"cat {IMPLANT}") == "new\n"
    on(lab, host, f"rm {IMPLANT}")
    undo(hands, host, *changes)
    assert state(lab, host, IMPLANT) == before


def test_undo_of_what_was_never_applied_changes_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    before = state(lab, host, IMPLANT)
    params = QuarantineParams(host=host.name, paths=(IMPLANT,))
    changes = QUARANTINE.plan(params, QUARANTINE.observe(params, hands.context(QUARANTINE, host.name)))
    undo(hands, host, *changes)
    assert state(lab, host, IMPLANT) == before


# ---------------------------------------------------------------- crashes


PLACES = [
    "chattr -ia",
    "aside\n\t\tmv",
    "mv -n -T",
    '[ ! -f "$private/file" ] || into',
    'hash_of "$file"',
    "stage moved",
]


@pytest.mark.parametrize("at", PLACES, ids=["attributes", "beside", "rename", "away", "kept", "done"])
@pytest.mark.parametrize("then", ["again", "undo"])
def test_cut_off_anywhere_a_second_run_or_an_undo_brings_it_to_a_clean_end(
    lab: Lab, whole_root: Hands, host: LabHost, at: str, then: str
) -> None:
    if at == "chattr -ia" or then == "undo":
        on(lab, host, f"chattr +i {IMPLANT}")
    before = state(lab, host, IMPLANT)
    params = QuarantineParams(host=host.name, paths=(IMPLANT,))
    context = whole_root.context(QUARANTINE, host.name)
    (change,) = QUARANTINE.plan(params, QUARANTINE.observe(params, context))
    shell: Any = RootShell(lab, killed_at(at))
    with pytest.raises(ConnectionLost):
        QUARANTINE.apply(change, dataclasses.replace(context, ports=dataclasses.replace(context.ports, shell=shell)))
    if then == "again":
        _, proof = whole_root.run(QUARANTINE, host.name, paths=[IMPLANT])
        assert proof.passed, proof
    undo(whole_root, host, change)
    assert state(lab, host, IMPLANT) == before
    assert left(lab, host) == ""


def killed_at(where: str) -> bytes:
    """The script, killing itself right before this line of `move`."""
    head, moving = remote.text("quarantine.sh").decode().split("\nmove() {", 1)
    before, found, after = moving.partition(where)
    assert found
    line = before.rpartition("\n")
    return f"{head}\nmove() {{{line[0]}\n\tkill -KILL $$\n{line[2]}{found}{after}".encode()


def test_a_late_writer_moves_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    changes, _ = hands.run(QUARANTINE, host.name, paths=[IMPLANT])
    with pytest.raises(RemoteFailed, match="is over") as caught:
        QUARANTINE.undo(changes[0], hands.context(QUARANTINE, host.name, epoch=3))
    assert caught.value.status == 75
    assert on(lab, host, f"if [ -e {IMPLANT} ]; then echo there; fi") == ""


def test_looking_changes_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    before = lab.diff(host)
    sha256 = on(lab, host, f"sha256sum {IMPLANT}").split()[0]
    params = QuarantineParams(host=host.name, paths=(IMPLANT,), hashes=(sha256,), roots=("/home",))
    assert len(QUARANTINE.observe(params, hands.context(QUARANTINE, host.name, epoch=0))["files"]) == 1
    assert lab.diff(host) == before
    assert left(lab, host) == ""
