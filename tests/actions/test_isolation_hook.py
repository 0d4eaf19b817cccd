"""A host whose SSH is dead is cut off by its hook: when that way is taken, and what counts as proof."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from irflow.actions import _isolation_hook
from irflow.actions.host_isolate import HostIsolate, IsolateParams
from irflow.actions.host_release import HostRelease, ReleaseParams
from irflow.core.action import Context
from irflow.core.errors import (
    ConnectionLost,
    DeadlineExceeded,
    HookFailed,
    HostKeyChanged,
    HostUnreachable,
    IrflowError,
    LoginFailed,
    RemoteFailed,
)
from irflow.core.inventory import Host
from irflow.core.model import Json, to_text
from irflow.core.ports import Hook
from irflow.core.status import Lease, StepStatus
from tests.fakes.remote import FakeShell, context

ISOLATE, RELEASE = HostIsolate(), HostRelease()
PARAMS = IsolateParams(host="web-1", lease=3600.0)
DEAD = HostUnreachable("port 22: no answer", where="web-1")


@dataclass
class Switch:
    """A hook and the cable behind it, which the prober looks at.

    lies: it says isolated and leaves the cable in. own_s: seconds after which it opens by itself. fails: by verb.
    """

    cut: bool = False
    lies: bool = False
    own_s: float | None = None
    fails: dict[str, Exception] = field(default_factory=dict)
    answers: dict[int, str] = field(default_factory=lambda: {22: "refused", 9: "refused"})
    calls: list[tuple[str, dict[str, Json]]] = field(default_factory=list)
    said: str | None = None

    def find(self, host: Host, verb: str) -> Hook | None:
        return Hook("switch", 20.0)

    def call(
        self, host: Host, verb: str, payload: dict[str, Json], *, timeout_s: float, hook: str = ""
    ) -> dict[str, Json]:
        assert (host.name, hook, timeout_s > 0) == ("web-1", "switch", True)
        self.calls.append((verb, payload))
        if verb in self.fails:
            raise self.fails[verb]
        if verb != "status":
            self.cut = verb == "isolate"
        answer: dict[str, Json] = {"state": self.said or ("isolated" if self.cut else "open")}
        if self.own_s is not None:
            answer["until"] = to_text(datetime.now(UTC) + timedelta(seconds=self.own_s))
        return answer

    def tcp(self, host: Host, port: int, *, timeout_s: float) -> str:
        return "silent" if self.cut and not self.lies else self.answers[port]

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cable of the tests is pulled at once."""
    monkeypatch.setattr(_isolation_hook, "SETTLE_S", 0.0)


def about(switch: Switch | None, ssh: Exception | str = DEAD) -> Context:
    """A host whose SSH says `ssh`, and perhaps a hook."""
    made = context(shell=FakeShell({"isolate.sh status": ssh}), prober=switch or Switch())
    return replace(made, ports=replace(made.ports, hooks=switch)) if switch else made


def held(made: Context, kind: str = "isolation by hook switch") -> Context:
    """As the journal has it after an isolation of that kind."""
    now = datetime.now(UTC)
    made.status.leases[kind, "web-1"] = Lease(
        kind, "web-1", now + timedelta(hours=1), made.step.key, 3600.0, now
    )  # fmt: skip
    made.status.steps[made.step.key] = StepStatus(
        made.step.key, "web-1", outcome={"facts": {"answers_before": {"22": "refused", "9": "refused"}}}
    )
    return made


def carry_out(made: Context, params: IsolateParams = PARAMS) -> tuple[Any, Any]:
    """Observe, plan, apply, verify."""
    seen = ISOLATE.observe(params, made)
    changes = ISOLATE.plan(params, seen)
    applied = tuple(ISOLATE.apply(change, made) for change in changes)
    return changes, ISOLATE.verify(params, seen, applied, made)


# ---------------------------------------------------------------- which way


@pytest.mark.parametrize(
    "error",
    [
        DEAD,
        LoginFailed("no", where="web-1"),
        DeadlineExceeded("hung", where="web-1"),
        ConnectionLost("gone", where="web-1"),
    ],
)
def test_where_nothing_can_be_done_over_ssh_the_plan_says_hook_and_why(error: IrflowError) -> None:
    changes, proof = carry_out(about(Switch(), error))
    assert [one.summary for one in changes] == [
        f"cut web-1 off the network for 3600 s by hook switch, SSH included: {error.message}"
    ]
    assert proof.passed


@pytest.mark.parametrize("error", [HostKeyChanged("another", where="web-1"), RemoteFailed("no nft", where="web-1")])
def test_what_a_person_must_judge_or_mend_does_not_pull_a_cable(error: IrflowError) -> None:
    switch = Switch()
    with pytest.raises(type(error)):
        carry_out(about(switch, error))
    assert switch.calls == []


def test_without_a_hook_a_dead_host_is_an_error_as_before() -> None:
    with pytest.raises(HostUnreachable):
        carry_out(about(None))


def test_a_look_at_rules_that_this_step_holds_does_not_ask_the_hook_instead() -> None:
    switch = Switch(cut=True)
    with pytest.raises(HostUnreachable):
        ISOLATE.observe(PARAMS, held(about(switch), "isolation"))
    assert switch.calls == []
    other = held(about(switch), "isolation")
    lease = other.status.leases["isolation", "web-1"]
    other.status.leases["isolation", "web-1"] = replace(lease, step="containment/another")
    assert ISOLATE.observe(PARAMS, other)["hook"] == "switch", "a new run may"


def test_a_host_with_ssh_is_never_cut_by_its_hook() -> None:
    switch = Switch()
    seen = ISOLATE.observe(PARAMS, about(switch, "state=absent\n"))
    assert "hook" not in seen
    assert switch.calls == []


# ---------------------------------------------------------------- proof


def test_the_hook_says_isolated_and_what_answered_is_silent() -> None:
    switch = Switch()
    _, proof = carry_out(about(switch))
    assert {one.name: (one.passed, one.before, one.after) for one in proof.checks} == {
        "hook switch says isolated": (True, "open", "isolated"),
        "the host is silent to the responder": (True, "port 22 refused, port 9 refused", "silent"),
    }
    assert switch.verbs == ["status", "isolate", "status"]
    payload = switch.calls[1][1]
    assert (payload["incident"], payload["epoch"], payload["lease_s"]) == ("IR-2026-0001", 7, 3600)


@pytest.mark.parametrize(
    ("switch", "failed", "says"),
    [
        (Switch(lies=True), "the host is silent to the responder", "port 22 refused, port 9 refused"),
        (
            Switch(fails={"isolate": HookFailed("hook switch, isolate web-1: port 7 is unknown", where="web-1")}),
            "hook switch says isolated",
            "open; when it was asked to isolate: web-1: hook switch, isolate web-1: port 7 is unknown",
        ),
        (
            Switch(fails={"isolate": DeadlineExceeded("no answer within 20 s", where="web-1")}),
            "hook switch says isolated",
            "open; when it was asked to isolate: web-1: no answer within 20 s",
        ),
    ],
)  # fmt: skip
def test_a_hook_that_lies_fails_or_hangs_is_a_failure_that_says_so(switch: Switch, failed: str, says: str) -> None:
    _, proof = carry_out(about(switch))
    assert not proof.passed
    assert failed in proof.failed
    assert {one.name: one.after for one in proof.checks}[failed] == says


def test_a_hook_that_answered_too_late_but_did_it_is_proved_all_the_same() -> None:
    switch = Switch()
    made = about(switch)
    seen = ISOLATE.observe(PARAMS, made)
    switch.fails["isolate"] = DeadlineExceeded("no answer within 20 s", where="web-1")
    applied = tuple(ISOLATE.apply(one, made) for one in ISOLATE.plan(PARAMS, seen))
    switch.cut = True
    assert ISOLATE.verify(PARAMS, seen, applied, made).passed


def test_what_is_perhaps_in_force_is_watched_even_where_the_proof_failed() -> None:
    _, proof = carry_out(about(Switch(lies=True)))
    assert [one["kind"] for one in proof.leases] == ["isolation by hook switch"]


def test_a_host_that_was_silent_before_is_proved_by_the_hook_and_the_check_says_so() -> None:
    _, proof = carry_out(about(Switch(answers={22: "silent", 9: "silent"})))
    assert proof.passed
    assert "the host is silent, as it was before" in {one.name for one in proof.checks}


@pytest.mark.parametrize("said", ["", "up", "None"])
def test_an_answer_without_a_state_is_not_understood(said: str) -> None:
    with pytest.raises(HookFailed, match="neither isolated nor open"):
        ISOLATE.observe(PARAMS, about(Switch(said=said or " ")))


# ---------------------------------------------------------------- lease


def test_the_lease_is_the_hooks_own_or_irflows() -> None:
    for own_s, expires, seconds in ((None, "irflow", 3600), (600.0, "hook", 600)):
        _, proof = carry_out(about(Switch(own_s=own_s)))
        (lease,) = proof.leases
        assert proof.facts["expires"] == expires
        assert abs(lease["seconds"] - seconds) < 5


def test_a_second_run_changes_nothing() -> None:
    switch = Switch()
    made = about(switch)
    carry_out(made)
    changes, proof = carry_out(held(made))
    assert changes == ()
    assert proof.passed
    assert switch.verbs.count("isolate") == 1


def test_after_a_death_between_cut_and_outcome_the_next_run_still_knows_how_the_host_answered() -> None:
    switch = Switch()
    made = about(switch)
    (change,) = ISOLATE.plan(PARAMS, ISOLATE.observe(PARAMS, made))
    made.status.steps[made.step.key] = StepStatus(made.step.key, "web-1", intended=(change.to_data(),))
    ISOLATE.apply(change, made)
    changes, proof = carry_out(made)
    assert changes == ()
    assert proof.passed
    assert proof.facts["answers_before"] == {"22": "refused", "9": "refused"}
    assert ISOLATE.undo(change, made).passed


def test_a_renewal_asks_the_hook_again_and_does_not_try_ssh() -> None:
    switch = Switch(cut=True)
    made = held(about(switch, AssertionError("SSH was tried")))
    proof = ISOLATE.renew(PARAMS, made)
    assert proof.passed
    assert "drift" not in proof.facts
    assert "isolate" in switch.verbs


@pytest.mark.parametrize(("switch", "drift"), [(Switch(), "gone"), (Switch(cut=True, lies=True), "leaking")])
def test_a_hook_that_let_the_host_go_is_drift(switch: Switch, drift: str) -> None:
    made = held(about(switch))
    assert ISOLATE.plan(PARAMS, ISOLATE.observe(PARAMS, made)) != ()
    assert ISOLATE.renew(PARAMS, made).facts["drift"] == drift


# ---------------------------------------------------------------- the way back


def test_undo_opens_by_the_hook_and_proves_that_the_host_answers_again() -> None:
    switch = Switch()
    made = about(switch)
    (change,), _ = carry_out(made)
    proof = ISOLATE.undo(change, made)
    assert proof.passed
    assert proof.ended_leases == ("isolation by hook switch",)
    assert ISOLATE.undo(change, made).passed, "twice is fine"


def test_undo_of_what_never_happened_is_harmless() -> None:
    switch = Switch()
    made = about(switch)
    (change,) = ISOLATE.plan(PARAMS, ISOLATE.observe(PARAMS, made))
    assert ISOLATE.undo(change, made).passed


def test_a_hook_that_says_open_while_the_host_stays_dark_is_no_release() -> None:
    switch = Switch()
    made = about(switch)
    (change,), _ = carry_out(made)
    switch.answers = {22: "silent", 9: "silent"}
    proof = ISOLATE.undo(change, made)
    assert proof.failed == ("the host answers again",)


def release(made: Context) -> tuple[Any, Any]:
    seen = RELEASE.observe(ReleaseParams(host="web-1"), made)
    changes = RELEASE.plan(ReleaseParams(host="web-1"), seen)
    applied = tuple(RELEASE.apply(change, made) for change in changes)
    return changes, RELEASE.verify(ReleaseParams(host="web-1"), seen, applied, made)


def test_release_goes_by_the_hook_that_the_journal_names() -> None:
    changes, proof = release(held(about(Switch(cut=True))))
    assert [one.summary for one in changes] == ["open web-1 by hook switch"]
    assert proof.passed
    assert proof.ended_leases == ("isolation by hook switch",)


def test_release_finds_a_cut_by_hook_that_no_journal_tells_of() -> None:
    changes, proof = release(about(Switch(cut=True)))
    assert [one.summary for one in changes] == ["open web-1 by hook switch"]
    assert proof.passed


def test_release_of_a_dead_host_that_no_hook_holds_says_that_ssh_is_dead() -> None:
    with pytest.raises(HostUnreachable):
        release(about(Switch()))


def test_release_takes_back_both_where_both_hold_the_hook_first() -> None:
    switch = Switch(cut=True)
    made = held(about(switch, "state=absent\nremains=no\n"))
    made.status.leases["isolation", "web-1"] = replace(
        made.status.leases["isolation by hook switch", "web-1"], kind="isolation"
    )
    shell: Any = made.ports.shell
    shell.answers["isolate.sh undo"] = "was=confirmed\nrestored=identical\n"
    changes, proof = release(made)
    assert [one.summary for one in changes] == ["open web-1 by hook switch", "take the isolation of web-1 back"]
    assert proof.passed, proof
    assert proof.ended_leases == ("isolation by hook switch", "isolation")
