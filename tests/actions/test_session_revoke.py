"""Which sessions end and which never do, and what counts as proof, also of a hook."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions.session_revoke import RevokeParams, SessionRevoke
from irflow.core.action import Change, Context, Proof
from irflow.core.errors import HookFailed, Refused
from irflow.core.inventory import Host
from irflow.core.model import Json
from irflow.core.ports import Hook
from tests.fakes.remote import FakeShell, context

REVOKE = SessionRevoke()

# PID START NUMBER NAME PEER OWN PROCESSES
DEPLOY = "session=10 100 1004 deploy 192.0.2.66 no 3\n"
TWIN = "session=20 200 1004 deploy2 192.0.2.7 no 2\n"
BOB = "session=30 300 1002 bob 2001:db8::7 no 1\n"
OWN = "session=40 400 0 root 10.0.0.1 yes 2\n"
ROOT = "session=50 500 0 root 192.0.2.66 no 2\n"
LOGIN = "session=60 600 0 - 192.0.2.66 no 1\n"
NUMBERS = "account=deploy 1004\naccount=root 0\n"
ALL = NUMBERS + DEPLOY + TWIN + BOB + OWN + ROOT + LOGIN


def params(**given: Any) -> RevokeParams:
    return RevokeParams.model_validate({"host": "web-1", **given})


def seen(one: RevokeParams, text: str = ALL, **more: Any) -> dict[str, Any]:
    return REVOKE.observe(one, context(shell=FakeShell({"session.sh status": text}), **more))


def chosen(**given: Any) -> list[int]:
    return [one["pid"] for one in seen(params(**given))["sessions"]]


# ---------------------------------------------------------------- who is meant


@pytest.mark.parametrize(
    ("given", "pids"),
    [
        ({"accounts": ["deploy"]}, [10, 20]),  # by its number: deploy2 is the same account
        ({"accounts": ["root"]}, [50]),  # not irflow's own, and not a login that has not come to its end
        ({"accounts": ["nobodyhere"]}, []),
        ({"addresses": ["192.0.2.66"]}, [10, 50, 60]),
        ({"addresses": ["192.0.2.0/26"]}, [20]),
        ({"addresses": ["::ffff:192.0.2.66"]}, [10, 50, 60]),
        ({"addresses": ["2001:db8::/64"]}, [30]),
        ({"accounts": ["deploy"], "addresses": ["2001:db8::7"]}, [10, 20, 30]),
    ],
)
def test_a_session_is_meant_by_its_account_or_its_address(given: dict[str, Any], pids: list[int]) -> None:
    assert chosen(**given) == pids


def test_irflows_own_sessions_are_kept_and_told() -> None:
    assert seen(params(accounts=["root"]))["kept"] == ["root from 10.0.0.1"]
    assert seen(params(accounts=["deploy", "gone"]))["missing"] == ["gone"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "name accounts or addresses"),
        ({"web": True}, "name accounts or addresses"),
        ({"accounts": ["a b"]}, "not the name of an account"),
        ({"addresses": ["nonsense"]}, "no address or network"),
        ({"addresses": ["0.0.0.0/0"]}, "is everybody"),
        ({"addresses": ["::/0"]}, "is everybody"),
    ],
)
def test_what_names_nobody_or_everybody_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        params(**given)


def test_an_address_that_the_responder_needs_is_refused() -> None:
    with pytest.raises(Refused, match="irflow's own management network"):
        seen(params(addresses=["10.0.0.0/24"]))


# ---------------------------------------------------------------- what is planned and proved


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (DEPLOY, "end 1 SSH session on web-1: deploy from 192.0.2.66 (3 processes)"),
        (
            DEPLOY + DEPLOY.replace("10 100", "11 101"),
            "end 2 SSH sessions on web-1: deploy from 192.0.2.66 (2) (6 processes)",
        ),
        (LOGIN, "end 1 SSH session on web-1: login from 192.0.2.66 (1 process)"),
        (
            "".join(f"session={n} {n} {n} user{n} 192.0.2.66 no 1\n" for n in range(2, 7)),
            "end 5 SSH sessions on web-1: user2 from 192.0.2.66, user3 from 192.0.2.66, user4 from 192.0.2.66 and "
            "2 more (5 processes)",
        ),
    ],
)
def test_what_people_read_before_they_agree(text: str, summary: str) -> None:
    one = params(addresses=["192.0.2.66"])
    (change,) = REVOKE.plan(one, seen(one, text))
    assert change.summary == summary


def test_without_a_session_nothing_is_done() -> None:
    one = params(accounts=["deploy"])
    assert REVOKE.plan(one, seen(one, NUMBERS + BOB + OWN)) == ()


def test_it_ends_also_those_that_began_meanwhile_but_not_for_ever() -> None:
    one = params(accounts=["deploy"])
    (change,) = REVOKE.plan(one, seen(one, NUMBERS + DEPLOY))
    newer = [NUMBERS + DEPLOY.replace("10 100", f"{n} {n}") for n in (11, 12, 13, 14, 15)]
    shell = FakeShell({"session.sh end": "ended=3\n", "session.sh status": [newer[0], NUMBERS]})
    assert REVOKE.apply(change, context(shell=shell)) == {"processes": 6}
    assert [args[-1] for _, args, _ in shell.calls if args[0] == "end"] == ["10:100:1004", "11:11:1004"]
    shell = FakeShell({"session.sh end": "ended=3\n", "session.sh status": [*newer]})
    assert REVOKE.apply(change, context(shell=shell)) == {"processes": 15}


def verify(one: RevokeParams, after: str) -> Proof:
    shell = FakeShell({"session.sh status": after})
    proof = REVOKE.verify(one, seen(one), ({"processes": 5},), context(shell=shell))
    assert shell.verbs() == ["status (new connection)"]
    return proof


def test_it_counts_when_none_is_left_over_a_new_connection() -> None:
    one = params(accounts=["deploy"], addresses=["192.0.2.66"])
    assert verify(one, NUMBERS + BOB + OWN).passed
    failed = verify(one, NUMBERS + ROOT)
    assert failed.failed == ("no SSH session of deploy or from 192.0.2.66 is left",)
    assert failed.checks[0].after == "root from 192.0.2.66"


def test_it_cannot_be_taken_back_and_says_why() -> None:
    assert not REVOKE.reversible
    assert "can do so again" in REVOKE.irreversible_because


# ---------------------------------------------------------------- web sessions


@dataclass
class Shop:
    """A hook with so many sessions behind it. answers: instead of the honest ones, by verb."""

    left: int = 2
    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Json], str]] = field(default_factory=list)

    def find(self, host: Host, verb: str) -> Hook | None:
        assert verb == "revoke_sessions"
        return Hook("shop", 20.0)

    def call(
        self, host: Host, verb: str, payload: dict[str, Json], *, timeout_s: float, hook: str = ""
    ) -> dict[str, Json]:
        self.calls.append((verb, payload, hook))
        if verb in self.answers:
            if isinstance(self.answers[verb], Exception):
                raise self.answers[verb]
            return dict(self.answers[verb])
        if verb == "check":
            return {"left": self.left}
        ended, self.left = self.left, 0
        return {"ended": ended}


WEB = params(accounts=["deploy"], addresses=["192.0.2.66"], web=True)


def with_shop(shop: Shop | None) -> Context:
    made = context(shell=FakeShell({"session.sh status": NUMBERS}))
    return made if shop is None else replace(made, ports=replace(made.ports, hooks=shop))


def go(shop: Shop | None) -> tuple[tuple[Change, ...], Proof]:
    here = with_shop(shop)
    found = REVOKE.observe(WEB, here)
    changes = REVOKE.plan(WEB, found)
    return changes, REVOKE.verify(WEB, found, tuple(REVOKE.apply(one, here) for one in changes), here)


def test_the_hook_is_told_whom_and_its_own_count_proves_it() -> None:
    shop = Shop()
    (change,), proof = go(shop)
    assert change.summary == "end web sessions of deploy or from 192.0.2.66 on web-1 by hook shop (2 now)"
    assert proof.passed
    assert proof.facts["web_ended"] == 2
    assert [verb for verb, _, _ in shop.calls] == ["check", "revoke_sessions", "check"]
    _, payload, name = shop.calls[1]
    assert name == "shop"
    wanted = {"incident": "IR-2026-0001", "accounts": ["deploy"], "addresses": ["192.0.2.66"], "epoch": 7}
    assert payload == {**wanted, "step": "containment/isolate-host#2.isolate@web-1"}


def test_a_hook_that_counts_none_is_not_called() -> None:
    shop = Shop(left=0)
    assert go(shop)[0] == ()
    assert {verb for verb, _, _ in shop.calls} == {"check"}


def test_a_hook_that_could_not_count_before_is_called_all_the_same() -> None:
    shop = Shop(answers={"check": {"left": "many"}})
    (change,), proof = go(shop)
    assert change.summary.endswith("(it does not say how many)")
    assert not proof.passed
    assert "it does not say how many: {'left': 'many'}" in proof.checks[-1].after


@pytest.mark.parametrize(
    ("answers", "passed", "said"),
    [
        ({"revoke_sessions": HookFailed("no database", where="web-1")}, False, "2 left; web-1: no database"),
        (
            {"revoke_sessions": {"ended": True}},
            False,
            "2 left; web-1: hook shop, revoke_sessions web-1: it does not say",
        ),
        ({"revoke_sessions": {"ended": 9}}, False, "2 left"),
        ({"check": {"left": -1}}, False, "it does not say how many"),
    ],
)
def test_only_the_hooks_own_count_of_none_is_proof(answers: dict[str, Any], passed: bool, said: str) -> None:
    _, proof = go(Shop(answers=answers))
    assert proof.passed is passed
    assert said in proof.checks[-1].after


def test_without_a_hook_the_ssh_sessions_end_and_the_missing_hook_is_a_failed_check() -> None:
    changes, proof = go(None)
    assert changes == ()
    assert proof.failed == ("web sessions are ended by a hook",)
    assert "irflow.yaml names no hook" in proof.checks[-1].after
