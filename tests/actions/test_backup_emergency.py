"""backup.emergency: what is saved, what is named as not saved, and when a stream is begun anew."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions import load_actions
from irflow.actions._backup import BackupParams, file_name, in_words, inside, report
from irflow.actions.backup_emergency import BackupEmergency
from irflow.core.action import Change, Context, Proof
from irflow.core.alert import Trust
from irflow.core.backups import Stored
from irflow.core.errors import (
    ConnectionLost,
    DeadlineExceeded,
    HostUnreachable,
    IrflowError,
    OutputTooLarge,
    RepositoryLocked,
)
from irflow.core.planner import Catalog, plan_runbook
from irflow.core.ports import Completed, Streamed
from irflow.core.runbook import Runbook
from tests.fakes.backups import FakeBackups
from tests.fakes.remote import context as context_of
from tests.fakes.world import PlainExpressions

TAR = b"line\n" * 1000
PARAMS = BackupParams(host="web-1", paths=("/etc", "/srv"), databases=("shop",))
LOOK = "pg_dump=/usr/bin/pg_dump\naccount=there\ndatabase.0.bytes=8000000\nbytes=12000000\n"


def said(content: bytes = TAR, changed: int = 0, left_out: int = 0, lines: str = "", sha256: str = "") -> bytes:
    digest = sha256 or hashlib.sha256(content).hexdigest()
    return f"{lines}sha256={digest} ended=0 changed={changed} left_out={left_out}\n".encode()


@dataclass
class Host:
    """A host that looks as it says, and whose streams are what is next in turn: content with stderr, or an error."""

    look: str = LOOK
    streams: list[Any] = field(default_factory=list)
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def run(self, host: Any, script: str, args: Any, **options: Any) -> Completed:
        self.calls.append(tuple(args))
        return Completed(0, self.look.encode(), b"", 0.1)

    def stream(self, host: Any, script: str, args: Any, *, sink: Any, timeout_s: float, max_bytes: int) -> Streamed:
        self.calls.append(tuple(args))
        turn = self.streams.pop(0) if self.streams else (TAR, said(), 0)
        if isinstance(turn, Exception):
            sink(b"some")
            raise turn
        content, stderr, status = turn
        sink(content)
        return Streamed(status, len(content), hashlib.sha256(content).hexdigest(), stderr, 0.1)

    @property
    def verbs(self) -> list[str]:
        return [one[0] for one in self.calls]


def context(host: Host, backups: FakeBackups) -> Context:
    made = context_of(shell=host)
    return replace(made, ports=replace(made.ports, backups=backups))


def run(host: Host, backups: FakeBackups, params: BackupParams = PARAMS) -> tuple[tuple[Change, ...], Proof]:
    action, about = BackupEmergency(), context(host, backups)
    seen = action.observe(params, about)
    changes = action.plan(params, seen)
    applied = tuple(action.apply(one, about) for one in changes)
    return changes, action.verify(params, seen, applied, about)


def failed(proof: Proof) -> dict[str, str]:
    return {one.name: one.after for one in proof.checks if not one.passed}


# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"paths": ["etc"]}, {"paths": ["/etc/../root"]}, {"paths": ["/a\0b"]}, {"paths": [""]},
        {"paths": ["base64url:ZXRj"]}, {"paths": ["base64url:*"]}, {"databases": [""]}, {"databases": ["a\0b"]},
        {"databases": ["x" * 64]}, {"paths": ["/etc"], "exclude": ["cache"]}, {"paths": ["/etc"], "max_size": 0},
        {"paths": ["/etc"], "max_size": "many"}, {"databases": ["a"], "database_account": "-x"},
        {"databases": ["a"], "database_account": "a;b"}, {"databases": ["a"], "database_port": 0},
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BackupParams.model_validate({"host": "web-1", **wrong})


def test_a_path_may_hold_any_byte() -> None:
    name = b"/srv/\xff\n 'x'"
    params = BackupParams(host="web-1", paths=("base64url:" + base64.urlsafe_b64encode(name).decode().rstrip("="),))
    assert inside(params.paths[0]) == name
    host = Host()
    run(host, FakeBackups(), params)
    (argument,) = (one for one in host.calls[0] if one.startswith("path:"))
    assert base64.urlsafe_b64decode(argument.removeprefix("path:")) == name


def test_sizes_are_written_as_people_do() -> None:
    assert BackupParams.model_validate({"host": "a", "paths": ["/"], "max_size": "20G"}).max_size == 20 * 10**9
    assert [in_words(one) for one in (None, 999, 1001, 12_000_000, 10**13)] == [
        "size not known", "about 999 bytes", "about 2 kB", "about 12 MB", "about 10 TB",
    ]  # fmt: skip


def test_names_in_the_repository_are_plain_and_stay_apart() -> None:
    assert file_name("web-1", "shop", "dump") == "/web-1/shop.dump"
    odd, other = file_name("web-1", "a/../b c", "dump"), file_name("web-1", "a/../b_c", "dump")
    assert odd != other
    assert "/" not in odd.removeprefix("/web-1/")


# ------------------------------------------------------------------ plan


def test_the_plan_says_what_goes_where_and_about_how_much() -> None:
    changes, proof = run(Host(), FakeBackups())
    assert [one.summary for one in changes] == [
        "back up /etc, /srv (about 12 MB) of web-1 into restic",
        "back up the database shop (about 8 MB) of web-1 into restic",
    ]
    assert proof.passed, failed(proof)


def test_it_reads_only_and_cannot_be_taken_back() -> None:
    assert (BackupEmergency.mutates, BackupEmergency.reversible) == (False, False)
    assert BackupEmergency.irreversible_because


@pytest.mark.parametrize(
    ("trust", "flags", "people"),
    [
        (Trust.VERIFIED, {}, 0), (Trust.UNVERIFIED, {}, 1), (Trust.VERIFIED, {"protected": True}, 0),
        (Trust.VERIFIED, {"own": True}, 0),
    ],
)  # fmt: skip
def test_nobody_is_asked_unless_the_sender_is_not_verified(trust: Trust, flags: dict[str, Any], people: int) -> None:
    about = context_of(**flags)
    runbook = Runbook.model_validate(
        {
            "runbook": "save", "title": "t",
            "steps": [{"id": "b", "title": "t", "action": "backup.emergency", "with": PARAMS.model_dump()}],
        }
    )  # fmt: skip
    catalog = Catalog({}, {"save": runbook}, load_actions(), about.ports.inventory, PlainExpressions())
    (step,) = plan_runbook(catalog, about.incident.model_copy(update={"trust": trust}), "save", {}).steps
    assert step.people == people, step.reasons


def test_what_is_saved_already_is_not_saved_again_but_read_back_again() -> None:
    host, backups = Host(), FakeBackups()
    _, first = run(host, backups)
    changes, again = run(host, backups)
    assert changes == ()
    assert host.verbs == ["look", "tar", "dump"]
    assert again.passed
    assert again.facts["snapshots"] == first.facts["snapshots"]
    assert again.facts["backups"] == first.facts["backups"]
    backups.spoil = b"something else"
    assert not run(host, backups)[1].passed


def test_what_an_earlier_try_left_is_begun_again_and_dropped_once_a_whole_one_is_there() -> None:
    backups = FakeBackups()
    seen = BackupEmergency().observe(PARAMS, context(Host(), backups))
    left = Stored("left", "/web-1/files.tar", seen["items"][0]["key"], "2025-01-01T00:00:00Z")
    backups.streams["left"] = (left, b"half", {})
    changes, proof = run(Host(), backups)
    assert len(changes) == 2
    assert proof.passed
    assert "left" not in backups.streams
    assert proof.facts["unfinished"] == []


# ------------------------------------------------------------------ what cannot be saved


@pytest.mark.parametrize(
    ("look", "name", "why"),
    [
        (LOOK.replace("/usr/bin/pg_dump", "missing"), "the database shop is saved", "pg_dump is not installed"),
        (LOOK.replace("account=there", "account=missing"), "the database shop is saved", "no account postgres"),
        (LOOK.replace("database.0.bytes=8000000", 'database.0.said=FATAL:  database "shop" does not exist'),
         "the database shop is saved", "does not exist"),
        (LOOK + "path.1=missing\n", "/srv is saved", "it is not there"),
        (LOOK + "path.0=missing\npath.1=missing\n", "/etc, /srv is saved", "none of it is there"),
        (LOOK.replace("=12000000", "=60000000000"), "/etc, /srv is saved", "more than max_size"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_named_and_everything_else_is_saved(look: str, name: str, why: str) -> None:
    backups = FakeBackups()
    _, proof = run(Host(look), backups)
    ((what, told),) = failed(proof).items()
    assert what == name
    assert why in told
    saved = {one["what"] for one in proof.facts["backups"]}
    assert saved == ({"/etc, /srv", "the database shop"} if name == "/srv is saved" else saved)
    assert saved


def test_without_psql_the_dump_is_tried() -> None:
    look = LOOK.replace("database.0.bytes=8000000", "database.0.said=psql is not installed")
    changes, proof = run(Host(look), FakeBackups())
    assert changes[1].summary == "back up the database shop (size not known) of web-1 into restic"
    assert proof.passed


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ((b"", b"irflow: pg_dump ended with status 1: no\n", 70), "pg_dump ended with status 1: no"),
        ((TAR, said(sha256="0" * 64), 0), "0000 was sent"),
        (OutputTooLarge("cut off", where="web-1"), "Raise max_size"),
        (DeadlineExceeded("cut off after 1 s", where="web-1"), "cut off after 1 s"),
        (HostUnreachable("no answer", where="web-1"), "no answer"),
    ],
)
def test_a_stream_that_fails_is_named_and_the_next_one_is_saved(turn: Any, why: str) -> None:
    _, proof = run(Host(streams=[turn]), FakeBackups())
    ((what, told),) = failed(proof).items()
    assert what == "/etc, /srv is saved"
    assert why in told
    assert [one["what"] for one in proof.facts["backups"]] == ["the database shop"]


def test_a_repository_that_refuses_fails_every_item_by_name() -> None:
    full = [IrflowError("the backup repository's disk is full") for _ in range(2)]
    _, proof = run(Host(), FakeBackups(refuse=full))
    assert list(failed(proof)) == ["/etc, /srv is saved", "the database shop is saved"]
    assert all("disk is full" in one for one in failed(proof).values())


# ------------------------------------------------------------------ once more


def test_a_lost_connection_begins_the_stream_anew() -> None:
    host = Host(streams=[ConnectionLost("gone", where="web-1")])
    _, proof = run(host, FakeBackups())
    assert host.verbs == ["look", "tar", "tar", "dump"]
    assert proof.passed


def test_a_connection_that_is_always_lost_ends_as_a_failure() -> None:
    host = Host(streams=[ConnectionLost("gone", where="web-1") for _ in range(3)])
    _, proof = run(host, FakeBackups())
    assert host.verbs == ["look", "tar", "tar", "tar", "dump"]
    assert failed(proof) == {"/etc, /srv is saved": "web-1: gone"}


@pytest.mark.parametrize(("cleared", "tries"), [(True, 2), (False, 1)])
def test_only_a_lock_that_is_gone_now_makes_another_try(cleared: bool, tries: int) -> None:
    host = Host()
    _, proof = run(host, FakeBackups(refuse=[RepositoryLocked("by 1 on x", cleared=cleared)]))
    assert host.verbs.count("tar") == tries
    assert proof.passed is cleared


# ------------------------------------------------------------------ proof


def test_what_comes_back_must_be_what_was_sent() -> None:
    _, proof = run(Host(), FakeBackups(spoil=b"something\n"))
    assert "the repository gives back /etc, /srv as the host sent it" in failed(proof)


def test_what_comes_back_must_be_listable_where_anything_can_list_it() -> None:
    empty = (b"", said(b""), 0)
    _, proof = run(Host(streams=[empty]), FakeBackups())
    assert list(failed(proof)) == ["/etc, /srv can be listed"]
    _, proof = run(Host(streams=[empty]), FakeBackups(listable=False))
    assert proof.passed


def test_files_that_changed_are_named_and_are_no_failure_but_files_left_out_are() -> None:
    lines = "changed ./etc/a\nleft_out ./etc/b: Cannot open: Permission denied\nsaid tar: hm\n"
    _, proof = run(Host(streams=[(TAR, said(changed=1, left_out=1, lines=lines), 0)]), FakeBackups())
    assert failed(proof) == {"every file of /etc, /srv could be read": "1: /etc/b: Cannot open: Permission denied"}
    fact = proof.facts["backups"][0]
    assert (fact["changed"], fact["changed_count"]) == (["/etc/a"], 1)
    _, proof = run(Host(streams=[(TAR, said(changed=1, lines="changed ./etc/a\n"), 0)]), FakeBackups())
    assert proof.passed


def test_a_report_without_its_last_line_is_none() -> None:
    for stderr in (b"", b"changed ./etc/a\n"):
        with pytest.raises(IrflowError, match="did not say what it sent"):
            report(stderr)


def test_tags_say_which_incident_host_and_step() -> None:
    backups = FakeBackups()
    run(Host(), backups)
    assert backups.tags[0] == ("IR-2026-0001", "web-1", "containment/isolate-host#2.isolate@web-1")
