"""What may be killed and how it is named, what is refused, what is on record before, and what the proof says."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions._kill_params import KillParams, process_argument
from irflow.actions._naming import path_argument
from irflow.actions._processes import Process, in_words, read
from irflow.actions.process_kill_tree import ProcessKillTree
from irflow.core.action import Change, Context
from irflow.core.errors import IrflowError, Refused, RemoteFailed
from irflow.core.ports import Completed
from tests.fakes.journal import AppendOnly
from tests.fakes.remote import FakeEvidence, FakeShell, context

KILL = ProcessKillTree()
PARAMS = KillParams(host="web-1", pids=("16@1877984",))
PROGRAM = b"\x7fELF and so on"
HASH = hashlib.sha256(PROGRAM).hexdigest()
LATER = "hz=100\nbtime=1795413101\n"


def line(
    pid: int = 16, link: str = "root", program: str = "/dev/shm/x (deleted)", command: str = "x\0-e\0", **more: str
) -> str:
    """One process as killtree.sh tells of it."""
    parts = {"start": "1877984", "uid": "1003", "state": "S", "parent": "1", "sha256": HASH, **more}
    return (
        f"process={pid} {parts['start']} {parts['uid']} {parts['state']} {link} {parts['parent']} {parts['sha256']} "
        f"{program.encode().hex() or '-'} {command.encode().hex() or '-'} {b'init'.hex()}0a\n"
    )


def answer(*lines: str, moving: int = 0) -> str:
    return "".join(lines) + f"count={len(lines)}\nmoving={moving}\nstable=yes\nkilled={len(lines)}\n{LATER}"


def record(content: bytes = PROGRAM, name: str = HASH) -> Completed:
    """A record of the host with one program in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        one = tarfile.TarInfo(f"evidence/programs/{name}")
        one.size = len(content)
        archive.addfile(one, io.BytesIO(content))
    sent = gzip.compress(packed.getvalue())
    said = f"sha256={hashlib.sha256(sent).hexdigest()} clock=1795413101.5 missing=\n"
    return Completed(0, sent, said.encode(), 0.1)


def here(**answers: Any) -> tuple[Context, FakeShell, AppendOnly]:
    shell = FakeShell({f"killtree.sh {verb}": value for verb, value in answers.items()})
    journal = AppendOnly()
    return context(shell=shell, evidence=FakeEvidence(), store=journal), shell, journal


def change_for(params: KillParams = PARAMS) -> Change:
    seen = KILL.observe(params, here(look=answer(line()))[0])
    (change,) = KILL.plan(params, seen)
    return change


# ---------------------------------------------------------------- what is named


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("16@1877984", "16:ticks:1877984"),
        ("16@2026-11-23T10:47:59Z", "16:epoch:1795430879"),
        ("16@2026-11-23T12:47:59+02:00", "16:epoch:1795430879"),
    ],
)
def test_a_process_is_named_by_its_pid_and_its_birth(text: str, argument: str) -> None:
    assert process_argument(text) == argument


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"pids": ["16"]}, "pids are used again"),
        ({"pids": ["1@5"]}, "process 1 is never killed"),
        ({"pids": ["0@5"]}, "pids are used again"),
        ({"pids": ["16@yesterday"]}, "is no time"),
        ({"pids": ["16@2026-11-23T10:47:59"]}, "in which time zone"),
        ({"pids": ["16@5;reboot"]}, "is no time"),
        ({"children_of": ["16"]}, "pids are used again"),
        ({"paths": ["tmp/x"]}, "not an absolute path"),
        ({"paths": ["/tmp/\0"]}, "not an absolute path"),
        ({"paths": ["base64url:####"]}, "not base64url"),
        ({"paths": ["base64url:dG1wL3g"]}, "not an absolute path"),
        ({"hashes": ["abc"]}, "not a SHA-256"),
        ({}, "nothing to kill"),
        ({"hashes": [HASH], "watch": "1h"}, "less than or equal to 300"),
    ],
)
def test_what_does_not_name_it_for_good_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        KillParams(host="web-1", **params)


def test_a_path_survives_with_every_byte_and_needs_no_quotes() -> None:
    assert path_argument("/tmp/ ü") == "L3RtcC8gw7w="
    assert path_argument("base64url:L3RtcC__") == "L3RtcC__"
    with pytest.raises(ValidationError):
        KillParams(host="web-1", paths=("base64url:cmVsYXRpdmU=",))


# ---------------------------------------------------------------- the plan


def test_the_plan_names_each_process_as_people_need_it() -> None:
    change = change_for()
    assert change.summary == (
        "kill 1 process on web-1: 16 (started 2026-11-23T11:04:40Z, uid 1003, /dev/shm/x (deleted): x -e)"
    )
    assert change.data["processes"] == ["16@1877984"]
    assert change.data["selectors"] == ["--pid", "16:ticks:1877984"]


def test_nothing_that_runs_is_nothing_to_do_but_what_moves_on_is() -> None:
    assert KILL.plan(PARAMS, KILL.observe(PARAMS, here(look=answer())[0])) == ()
    (change,) = KILL.plan(PARAMS, KILL.observe(PARAMS, here(look=answer(moving=1))[0]))
    assert change.summary == "kill what runs on web-1 under a new pid all the time"


def test_of_many_the_first_are_named_and_the_rest_counted() -> None:
    params = PARAMS.model_copy(update={"most": 20000})
    many = [line(pid, sha256="-") for pid in range(2, 302)]
    seen = KILL.observe(params, here(look=answer(*many))[0])
    assert len(seen["processes"]) == 200
    (change,) = KILL.plan(params, seen)
    assert change.summary.startswith("kill 300 processes on web-1: 2 (")
    assert change.summary.endswith("; and 292 more")


def test_more_than_may_be_killed_is_refused_before_anything_is_frozen() -> None:
    place, shell, _ = here(look=answer(line(16), line(17, "child")))
    with pytest.raises(Refused, match="2 processes belong to it, more than the 1 that may be killed"):
        KILL.observe(PARAMS.model_copy(update={"most": 1}), place)
    assert shell.verbs() == ["look"]


def test_a_command_line_shows_on_one_line_without_passwords() -> None:
    (one,), _ = read(answer(line(command="db\0--password=hunter2\0a\nb\x1b[1m\0")))
    assert one.command == "db --password=*** a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[1m"
    (one,), _ = read(answer(line(command="x" * 500)))
    assert len(one.command) == 120


@pytest.mark.parametrize(
    ("program", "packaged"),
    [
        ("/usr/bin/perl", True),
        ("/usr/bin/perl (deleted)", True),
        ("/dev/shm/x (deleted)", False),
        ("/memfd:x (deleted)", False),
    ],
)
def test_what_lies_where_packages_put_programs_is_told_apart(program: str, packaged: bool) -> None:
    (one,), _ = read(answer(line(program=program)))
    assert isinstance(one, Process)
    assert one.packaged is packaged
    assert in_words([one], 1) == str(one)


# ---------------------------------------------------------------- the kill


def test_the_program_is_on_record_before_the_kill() -> None:
    place, shell, journal = here(freeze=answer(line()), record=record(), kill="killed=1\n")
    order: list[str] = []
    run = shell.run

    def watched(host: Any, script: str, args: Any = (), **options: Any) -> Completed:
        order.append(f"{args[0]} {len(journal.custody)}")
        return run(host, script, args, **options)

    shell.run = watched  # type: ignore[method-assign]
    done = KILL.apply(change_for(), place)
    assert order == ["freeze 0", "record 0", "kill 1"]
    (entry,) = journal.custody
    assert entry["programs"] == [HASH]
    assert done["programs"] == {HASH: True}


@pytest.mark.parametrize(
    "broken",
    [
        dataclasses.replace(record(), stderr=b"sha256=0000 clock=1 missing=\n"),
        dataclasses.replace(record(), status=73, stderr=b"irflow: no room\n"),
    ],
)
def test_without_a_record_nothing_is_killed_and_people_are_told_what_to_do(broken: Completed) -> None:
    place, shell, journal = here(freeze=answer(line()), record=broken, kill="killed=1\n")
    with pytest.raises(IrflowError, match="stays frozen; try again, or set record: false"):
        KILL.apply(change_for(), place)
    assert "kill" not in shell.verbs()
    assert journal.custody == []


def test_without_the_wish_for_a_record_it_is_killed_at_once() -> None:
    place, shell, journal = here(freeze=answer(line()), kill="killed=1\n")
    KILL.apply(change_for(PARAMS.model_copy(update={"record": False})), place)
    assert shell.verbs() == ["freeze", "kill"]
    assert journal.custody == []


def test_what_ended_by_itself_meanwhile_needs_no_record() -> None:
    place, _, journal = here(freeze=answer(), kill="killed=0\n")
    assert KILL.apply(change_for(), place)["count"] == 0
    assert journal.custody == []


def test_a_kill_that_does_not_end_is_an_error() -> None:
    failed = Completed(65, b"", b"irflow: 1 do not end: 16 D\n", 0.1)
    place, _, _ = here(freeze=answer(line()), record=record(), kill=failed)
    with pytest.raises(RemoteFailed, match="1 do not end"):
        KILL.apply(change_for(), place)


# ---------------------------------------------------------------- the proof


def proof_of(after: str, applied: bool = True, content: bytes = PROGRAM) -> Any:
    place, shell, _ = here(
        look=[answer(line()), after], freeze=answer(line()), record=record(content), kill="killed=1\n"
    )
    seen = KILL.observe(PARAMS, place)
    done = tuple(KILL.apply(one, place) for one in KILL.plan(PARAMS, seen)) if applied else ()
    proof = KILL.verify(PARAMS, seen, done, place)
    assert shell.calls[-1][2], "it looks over a new connection"
    return proof, shell.calls[-1][1]


def test_nothing_left_and_the_same_program_on_both_ends_is_a_proof() -> None:
    proof, args = proof_of(answer())
    assert proof.passed, proof
    assert args[args.index("--strange") : args.index("--strange") + 2] == ("--strange", HASH)
    assert proof.facts["killed"] == 1


def test_one_that_lives_on_and_one_that_came_back_fail_by_name() -> None:
    proof, _ = proof_of(answer(line(state="D")))
    assert proof.failed == ("none of it is alive",)
    proof, _ = proof_of(answer(line(99, start="1999999")))
    assert proof.failed == ("nothing of it comes back within 1 s",)
    assert "started by 1 (init)" in proof.checks[1].after
    proof, _ = proof_of(answer(moving=2))
    assert proof.failed == ("nothing of it comes back within 1 s",)


def test_a_program_that_arrived_otherwise_fails_the_proof() -> None:
    proof, _ = proof_of(answer(), content=b"something else")
    assert proof.failed == ("the programs are on record with the hashes that they have on the host",)


def test_a_program_of_a_package_is_not_looked_for_by_its_hash() -> None:
    place, shell, _ = here(look=[answer(line(program="/usr/bin/perl")), answer()])
    seen = KILL.observe(PARAMS, place)
    KILL.verify(PARAMS, seen, (), place)
    assert "--strange" not in shell.calls[-1][1]
