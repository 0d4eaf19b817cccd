"""Which files are taken and which never, what is on record before the move, and what the proof and an undo say."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions._quarantine import QuarantineParams, shown
from irflow.actions.file_quarantine import FileQuarantine
from irflow.core.action import Change, Context
from irflow.core.errors import Refused
from irflow.core.ports import Completed
from tests.fakes.journal import AppendOnly
from tests.fakes.remote import FakeEvidence, FakeShell, context

QUARANTINE = FileQuarantine()
CONTENT = b"#!/bin/sh\n"
HASH = hashlib.sha256(CONTENT).hexdigest()
PARAMS = QuarantineParams(host="web-1", paths=("/tmp/x",))


def b64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def line(state: str = "present", path: str = "/tmp/x", **more: Any) -> str:
    """One file as quarantine.sh tells of it."""
    parts = {"sha256": HASH, "mode": "4755", "links": "1", "flags": "-", "pids": "-", **more}
    folder = b64(path.rpartition("/")[0]) or "-"
    if state == "missing":
        return f"file={b64(path)} missing - - - - - - - - - {folder}\n"
    return (
        f"file={b64(path)} {state} {parts['sha256']} 10 {parts['mode']} 0 0 5.000000001 {parts['links']} "
        f"{parts['flags']} {parts['pids']} {folder}\n"
    )


def content(text: bytes = CONTENT) -> Completed:
    said = f"sha256={hashlib.sha256(text).hexdigest()} clock=1795413101.5 missing=\n"
    return Completed(0, text, said.encode(), 0.1)


def here(**answers: Any) -> tuple[Context, FakeShell, AppendOnly]:
    shell = FakeShell({f"quarantine.sh {verb}": value for verb, value in answers.items()})
    journal = AppendOnly()
    return context(shell=shell, evidence=FakeEvidence(), store=journal), shell, journal


def changes_for(*lines: str, params: QuarantineParams = PARAMS) -> tuple[Change, ...]:
    return QUARANTINE.plan(params, QUARANTINE.observe(params, here(look="".join(lines))[0]))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "nothing to take"),
        ({"paths": ["tmp/x"]}, "not an absolute path"),
        ({"paths": ["/tmp/"]}, "not the path of a file"),
        ({"paths": ["/tmp/.."]}, "not the path of a file"),
        ({"hashes": [HASH]}, "belong together"),
        ({"paths": ["/tmp/x"], "roots": ["/"]}, "belong together"),
        ({"hashes": ["12"], "roots": ["/"]}, "not a SHA-256"),
        ({"paths": ["/tmp/x"], "sha256": {"/tmp/y": HASH}}, "names what paths do not"),
        ({"paths": ["/tmp/x"], "sha256": {"/tmp/x": "12"}}, "not a SHA-256"),
    ],
)
def test_what_makes_no_sense_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        QuarantineParams(host="web-1", **params)


def test_the_plan_says_hash_owner_what_runs_it_and_its_other_names() -> None:
    (change,) = changes_for(line(links=3, pids="41,42"))
    assert change.summary == (
        f"quarantine /tmp/x on web-1 (SHA-256 {HASH}, 10 bytes, mode 4755, uid 0; runs as 41, 42 and goes on running; "
        "2 more names (hard links) of it stay)"
    )
    assert change.data["before"]["mtime"] == "5.000000001"


def test_what_is_in_quarantine_or_not_there_is_nothing_to_do() -> None:
    assert changes_for(line("quarantined", mode="0")) == ()
    assert changes_for(line("missing")) == ()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("symlink", "is a link, and links are not followed"),
        ("directory", "is a folder"),
        ("special", "is no regular file"),
        ("guarded", "the responder's own way in"),
        ("unreadable", "could not be read"),
        ("too_large", "is larger than max_size"),
    ],
)
def test_one_that_must_not_be_taken_holds_back_all(state: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        changes_for(line(), line(state, "/tmp/y"))


def test_another_hash_than_the_one_asked_for_and_too_many_files_are_refused() -> None:
    with pytest.raises(Refused, match=r"/tmp/x has SHA-256 .*, not 0000.*: it was changed meanwhile"):
        changes_for(line(), params=QuarantineParams(host="web-1", paths=("/tmp/x",), sha256={"/tmp/x": "0" * 64}))
    with pytest.raises(Refused, match="2 files are meant, more than the 1"):
        changes_for(line(), line(path="/tmp/y"), params=PARAMS.model_copy(update={"most": 1}))


def test_the_content_is_on_record_before_the_move() -> None:
    place, shell, journal = here(fetch=content(), move="")
    (change,) = changes_for(line())
    QUARANTINE.apply(change, place)
    assert shell.verbs() == ["fetch", "move"]
    (entry,) = journal.custody
    assert (entry["sha256"], entry["file"]) == (HASH, "/tmp/x")


def test_what_changed_since_the_plan_is_put_on_record_but_not_moved() -> None:
    place, shell, journal = here(fetch=content(b"other"), move="")
    (change,) = changes_for(line())
    with pytest.raises(Refused, match="was changed meanwhile"):
        QUARANTINE.apply(change, place)
    assert shell.verbs() == ["fetch"]
    assert len(journal.custody) == 1


def test_what_was_cut_off_half_way_is_finished_without_another_record() -> None:
    place, shell, journal = here(move="")
    (change,) = changes_for(line("half_way"))
    QUARANTINE.apply(change, place)
    assert shell.verbs() == ["move"]
    assert journal.custody == []
    assert change.data["before"]["mode"] == "4755"


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        (line("quarantined", mode="0"), ()),
        (line(), ("/tmp/x is gone", "/tmp/x is kept unchanged", "/tmp/x lets nobody in")),
        (line("quarantined", mode="0", sha256="0" * 64), ("/tmp/x is kept unchanged",)),
        (line("quarantined", mode="755"), ("/tmp/x lets nobody in",)),
        (line("quarantined", mode="755", links=2), ()),
    ],
)
def test_the_proof_looks_at_the_path_the_content_and_the_permissions(after: str, failed: tuple[str, ...]) -> None:
    place, shell, _ = here(look=[line(), after], fetch=content(), move="")
    seen = QUARANTINE.observe(PARAMS, place)
    applied = tuple(QUARANTINE.apply(one, place) for one in QUARANTINE.plan(PARAMS, seen))
    assert QUARANTINE.verify(PARAMS, seen, applied, place).failed == failed
    assert shell.verbs()[-1] == "look (new connection)"


def test_a_search_that_was_cut_off_fails_the_proof() -> None:
    params = QuarantineParams(host="web-1", hashes=(HASH,), roots=("/home",))
    place, _, _ = here(look=["searched=cut_off\n", ""])
    seen = QUARANTINE.observe(params, place)
    assert QUARANTINE.verify(params, seen, (), place).failed == ("all of the roots was searched",)


def test_undo_proves_content_and_everything_about_the_file() -> None:
    (change,) = changes_for(line())
    place, shell, _ = here(restore="", look=line())
    assert QUARANTINE.undo(change, place).passed
    assert shell.verbs() == ["restore", "look (new connection)"]
    place, _, _ = here(restore="", look=line(mode="755"))
    assert QUARANTINE.undo(change, place).failed == ("/tmp/x is as it was",)


def test_names_show_on_one_line() -> None:
    assert shown(b64("/tmp/a\nb")) == "/tmp/a\N{REPLACEMENT CHARACTER}b"
