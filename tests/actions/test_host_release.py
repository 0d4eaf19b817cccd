"""When a host counts as back."""

from __future__ import annotations

from typing import Any

import pytest

from irflow.actions.host_release import HostRelease, ReleaseParams
from irflow.core.status import StepStatus
from tests.fakes.remote import FakeProber, FakeShell, context

RELEASE = HostRelease()
PARAMS = ReleaseParams(host="web-1")


def test_a_person_must_always_agree() -> None:
    assert RELEASE.needs_person
    assert not RELEASE.reversible
    assert RELEASE.irreversible_because


@pytest.mark.parametrize(
    ("state", "remains", "count"),
    [("absent", False, 0), ("absent", True, 1), ("armed", False, 1), ("confirmed", True, 1), ("expired", False, 1)],
)
def test_nothing_is_done_when_nothing_is_there(state: str, remains: bool, count: int) -> None:
    assert len(RELEASE.plan(PARAMS, {"state": state, "spec": "s", "remains": remains})) == count


@pytest.mark.parametrize(
    ("state", "restored", "before", "after", "passed"),
    [
        ("absent", "identical", "refused", "refused", True),
        ("absent", "identical", "refused", "silent", False),
        ("absent", "identical", "silent", "silent", True),
        ("absent", "identical", "", "silent", False),
        ("absent", "changed_meanwhile", "refused", "refused", True),
        ("absent", "", "refused", "refused", False),
        ("confirmed", "identical", "refused", "refused", False),
        ("absent\nremains=yes", "identical", "refused", "refused", False),
    ],
)
def test_back_means_gone_over_a_new_connection_and_answering_as_before(
    state: str, restored: str, before: str, after: str, passed: bool
) -> None:
    shell = FakeShell({"isolate.sh status": f"state={state}\n"})
    seen: dict[str, Any] = {"state": "confirmed", "probe": "silent", "probe_before_cut": before}
    proof = RELEASE.verify(PARAMS, seen, ({"restored": restored},), context(shell=shell, prober=FakeProber([after])))
    assert proof.passed is passed
    assert shell.verbs() == ["status (new connection)"]
    assert proof.ended_leases == (("isolation",) if state == "absent" else ())


def test_how_the_host_answered_before_the_cut_is_read_from_the_journal() -> None:
    about = context(shell=FakeShell({"isolate.sh status": "state=confirmed\n"}), prober=FakeProber(["silent"]))
    for target, answer in (("web-2", "open"), ("web-1", "refused")):
        key = f"containment/isolate-host.isolate@{target}"
        about.status.steps[key] = StepStatus(key, target, outcome={"facts": {"probe_before": answer}})
    assert RELEASE.observe(PARAMS, about)["probe_before_cut"] == "refused"


def test_undo_carries_the_epoch() -> None:
    shell = FakeShell({"isolate.sh undo": "was=confirmed\nrestored=identical\nstate=absent\n"})
    (change,) = RELEASE.plan(PARAMS, {"state": "confirmed", "spec": "s", "remains": True})
    assert RELEASE.apply(change, context(shell=shell)) == {"was": "confirmed", "restored": "identical"}
    assert shell.calls[0][1][:3] == ("undo", "--epoch", "7")
