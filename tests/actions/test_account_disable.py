"""Which accounts are shut, which never are, what people read before they agree, and what counts as brought back."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions.account_disable import AccountDisable, DisableParams
from irflow.core.action import Change, Proof
from irflow.core.errors import HostError, Refused
from tests.fakes.remote import FakeShell, context

DISABLE = AccountDisable()
PARAMS = DisableParams(host="web-1", accounts=("deploy",))
KEY = "keys aa 1004:1004 600 1767000000 188 /home/deploy/.ssh/authorized_keys"
CRON = "cron bb 1004:105 600 1767000000 40 /var/spool/cron/crontabs/deploy"


def block(name: str = "deploy", *more: str, **lines: str) -> str:
    """An account of the host that can be logged in to, unless it is said otherwise."""
    full = {
        "kind": "local", "uid": "1004", "carries": "no", "system": "no", "shares": "", "passwd": "p0", "shadow": "s0",
        "locked": "no", "expired": "no", **lines,
    }  # fmt: skip
    return f"account={name}\n" + "".join(f"{line}\n" for line in (*(f"{k}={v}" for k, v in full.items()), *more))


MISSING = "account={}\nkind=none\n"
SHUT = {"locked": "yes", "expired": "yes", "shadow": "s1"}
WAS = ("was_shadow=s0", "was_passwd=p0", "was_locked=no", "was_expired=no")


def observe(*blocks: str, params: DisableParams = PARAMS) -> dict[str, Any]:
    return DISABLE.observe(params, context(shell=FakeShell({"account.sh status": "".join(blocks)})))


def plan(*blocks: str, params: DisableParams = PARAMS) -> tuple[Change, ...]:
    return DISABLE.plan(params, observe(*blocks, params=params))


HOLDER = observe(block())["holder"]


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["", "-L", "a b", "a;b", "a,b", "../x", "a..b", "a/b", "a:b", "$x", "1004", "x" * 65, "é"]
)
def test_a_name_that_cannot_be_sent_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="not the name of an account that can be sent"):
        DisableParams(host="web-1", accounts=("deploy", name))


def test_names_of_directories_and_of_services_are_names_and_kept_once() -> None:
    names = ("first.last", "svc-app_2", "user@example.org", "Deploy", "deploy", "deploy")
    assert DisableParams(host="web-1", accounts=names).accounts == names[:-1]
    with pytest.raises(ValidationError):
        DisableParams(host="web-1", accounts=())


@pytest.mark.parametrize(
    ("name", "user", "said"),
    [
        ("root", "ir", "there is no way in"),
        ("sshd", "ir", "way in needs it"),
        ("messagebus", "ir", "way in needs it"),
        ("ir", "ir", "the account that irflow logs in with"),
    ],
)
def test_some_accounts_are_refused_before_the_host_is_asked(name: str, user: str, said: str) -> None:
    shell = FakeShell({})
    with pytest.raises(Refused, match=f"web-1: {name} is never disabled: .*{said}"):
        DISABLE.observe(DisableParams(host="web-1", accounts=("deploy", name)), context(shell=shell, user=user))
    assert shell.calls == []


@pytest.mark.parametrize(
    ("lines", "said"), [({"uid": "0"}, "its number is 0"), ({"carries": "yes"}, "the responder's own session is its")]
)
def test_what_turns_out_to_be_root_or_the_way_in_is_refused(lines: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=f"deploy is never disabled: {said}"):
        observe(block(**lines))


def test_an_account_that_cannot_expire_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(HostError, match=r"no line in /etc/shadow.*session\.revoke"):
        observe(block(shadow=""))


def test_accounts_that_are_not_there_are_an_error_only_when_all_are() -> None:
    both = DisableParams(host="web-1", accounts=("gone", "away"))
    with pytest.raises(HostError, match=r"there is no account gone or away\."):
        observe(MISSING.format("gone"), MISSING.format("away"), params=both)
    one = DisableParams(host="web-1", accounts=("gone", "deploy"))
    (change,) = plan(MISSING.format("gone"), block(), params=one)
    assert change.summary == "disable deploy on web-1: password and certificates (there is no account gone)"


# ---------------------------------------------------------------- what is planned


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (block(), "disable deploy on web-1: password and certificates"),
        (
            block("deploy", f"item={KEY}", f"item={KEY}2", f"item={CRON}", "process=7 sh ", "process=8 curl x.service"),
            "disable deploy on web-1: password and certificates, 2 key files, 1 crontab; ends 2 processes",
        ),
        (block(system="yes"), "... (a system account: services may run as it)"),
        (block(shares="deploy2,d3"), "... (its number is also that of deploy2, d3)"),
        (
            block("deploy", "process=7 sh ", **SHUT),
            "...; ends 1 process (somebody else disabled it before, and it stays so after undo)",
        ),
        (block("deploy", f"item={KEY}", f"holders={HOLDER},", *WAS, **SHUT), "..., 1 key file"),
        (block("deploy", f"holders={HOLDER},", *WAS, locked="no", expired="yes"), "..."),
        (block("deploy", "holders=0123456789ab,", *WAS, **SHUT), "keep deploy on web-1 disabled, as it is"),
    ],
)
def test_what_people_read_before_they_agree(text: str, summary: str) -> None:
    (change,) = plan(text)
    assert change.summary == summary.replace("...", "disable deploy on web-1: password and certificates")


@pytest.mark.parametrize(
    "text",
    [
        block("deploy", f"holders={HOLDER},", *WAS, **SHUT),
        block("deploy", f"holders=0123456789ab,{HOLDER},", *WAS, **SHUT),
        block(**SHUT),  # by somebody else, with nothing left to take
        "account=deploy\nkind=directory\n",
    ],
)
def test_nothing_is_done_to_what_is_shut_or_not_of_the_host(text: str) -> None:
    assert plan(text) == ()


def test_undo_is_told_what_was_before_irflow_came_not_what_an_earlier_try_left() -> None:
    moved = KEY.replace("keys", "was_item=keys", 1)
    (change,) = plan(block("deploy", moved, f"item={CRON}", f"holders={HOLDER},", *WAS, **SHUT))
    before = change.data["before"]
    assert (before["locked"], before["expired"], before["shadow"]) == (False, False, "s0")
    assert [one["kind"] for one in before["items"]] == ["keys", "cron"]


# ---------------------------------------------------------------- what counts


def verify(before: str, after: str, params: DisableParams = PARAMS) -> Proof:
    applied = ({"account": "deploy", "ended": 2, "stays": ["/x: too large"]},)
    shell = FakeShell({"account.sh status": after})
    proof = DISABLE.verify(params, observe(before, params=params), applied, context(shell=shell))
    assert shell.verbs() == ["status (new connection)"]
    return proof


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        (block(**SHUT), None),
        (block(locked="yes"), "locked and expired"),
        (block(expired="yes"), "locked and expired"),
        (block("deploy", f"item={CRON}", **SHUT), "nothing lets deploy back in"),
        (block("deploy", "process=9 nc app.service", **SHUT), "nothing of deploy runs"),
    ],
)
def test_it_counts_only_when_all_of_it_holds(after: str, failed: str | None) -> None:
    proof = verify(block(), after)
    assert proof.passed is (failed is None)
    assert [failed in one for one in proof.failed if failed] == ([True] if failed else [])


def test_an_account_of_a_directory_is_a_failed_check_that_says_where_it_is_disabled() -> None:
    proof = verify("account=deploy\nkind=directory\n", "account=deploy\nkind=directory\n")
    assert proof.failed == ("deploy is disabled",)
    assert "disable it there" in proof.checks[0].after


UNDONE = "expected_shadow=s0\nwas=disabled\ndone=yes\n"


def undo(said: str, after: str, before: str = "") -> Proof:
    (change,) = plan(before or block("deploy", f"item={KEY}"))
    return DISABLE.undo(change, context(shell=FakeShell({"account.sh enable": said, "account.sh status": after})))


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        (block("deploy", f"item={KEY}"), ()),
        (block("deploy", f"item={KEY}", shadow="s9"), ("the line of deploy in /etc/shadow is as before",)),
        (block("deploy", f"item={KEY}", passwd="p9"), ("the line of deploy in /etc/passwd is as before",)),
        (block("deploy"), ("keys, crontab, at jobs and linger of deploy are as before",)),
        (
            block("deploy", f"item={KEY.replace('600', '644')}"),
            ("keys, crontab, at jobs and linger of deploy are as before",),
        ),
    ],
)
def test_undo_counts_only_byte_for_byte_with_owner_mode_and_time(after: str, failed: tuple[str, ...]) -> None:
    proof = undo(UNDONE, after)
    assert proof.failed == failed


JOB = "at cc 1004:1 700 1767000000 585 /var/spool/cron/atjobs/a00001{:08x}"


@pytest.mark.parametrize(
    ("minutes", "said", "passed"),
    [
        (-5, "back={}\n", True),  # atd heard that it is back, and ran it before anybody looked
        (-5, "", False),  # it never came back
        (-5, "was=absent\n", True),  # an earlier try of this undo brought it back
        (60, "was=absent\n", False),  # then it would still be there
    ],
)
def test_an_at_job_may_have_run_since_it_came_back(minutes: int, said: str, passed: bool) -> None:
    job = JOB.format(int(time.time() / 60) + minutes)
    proof = undo(UNDONE + said.format(job), block(), before=block("deploy", f"item={job}"))
    assert proof.passed is passed
    assert ("(1 of them due, and run since)" in proof.checks[-1].after) is passed


def test_what_was_changed_meanwhile_is_told_and_is_no_failure() -> None:
    proof = undo("meanwhile=the password was set anew\n" + UNDONE, block("deploy", f"item={KEY}", shadow="s9"))
    assert proof.passed
    assert proof.facts["restored"] == "changed_meanwhile"
    assert proof.checks[0].after == "changed_meanwhile: the password was set anew"


@pytest.mark.parametrize(("after", "passed"), [(block(**SHUT), True), (block(), False)])
def test_what_another_incident_needs_stays_disabled(after: str, passed: bool) -> None:
    proof = undo("was=held\nheld=0123456789ab\ndone=yes\n", after)
    assert proof.passed is passed
    assert proof.checks[0].name == "deploy stays disabled: another incident needs it too"


def test_steps_of_one_incident_hold_together_and_are_fenced_apart() -> None:
    (change,) = plan(block())
    shell = FakeShell({"account.sh disable": "killed=3\ndone=yes\n"})
    here = context(shell=shell)
    assert DISABLE.apply(change, here) == {"account": "deploy", "ended": 3, "stays": []}
    (_, args, fresh), *_ = shell.calls
    assert not fresh
    assert args[:3] == ("disable", "--epoch", "7")
    assert args[args.index("--id") + 1] != args[args.index("--holder") + 1] == HOLDER
