"""When a host is cut off, with what, and what counts as proof."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions.host_isolate import HostIsolate, IsolateParams
from irflow.core.errors import ConfigurationError, ConnectionLost, HostUnreachable, RemoteFailed
from irflow.core.ports import Completed
from irflow.core.status import StepStatus
from tests.fakes.remote import FakeProber, FakeShell, context

ISOLATE = HostIsolate()
PARAMS = IsolateParams(host="web-1", lease=3600.0)


def report(state: str, *, left: int = 3600, spec: str = "", rules: str = "r", dropped: int = 0, **more: str) -> str:
    lines = {"backend": "nft", "state": state, "left": left, "spec": spec, "rules": rules, "dropped_packets": dropped}
    return "".join(f"{key}={value}\n" for key, value in {**lines, **more}.items())


def wanted(**host: Any) -> dict[str, Any]:
    """What observe wants of a host that nothing is in force on."""
    shell = FakeShell({"isolate.sh status": report("absent")})
    data = ISOLATE.observe(PARAMS, context(shell=shell, prober=FakeProber(["refused"]), **host))["wanted"]
    assert isinstance(data, dict)
    return data


SPEC = wanted()["spec"]


@pytest.mark.parametrize(
    ("seen", "cuts"),
    [
        ({"state": "absent"}, True),
        ({"state": "expired"}, True),
        ({"state": "armed", "spec": SPEC}, True),
        ({"state": "confirmed", "spec": SPEC}, False),
        ({"state": "confirmed", "spec": SPEC, "left_s": 1800}, False),
        ({"state": "confirmed", "spec": SPEC, "left_s": 1799}, True),
        ({"state": "confirmed", "spec": "another"}, True),
        ({"state": "confirmed", "spec": SPEC, "rules_known": "r"}, False),
        ({"state": "confirmed", "spec": SPEC, "rules_known": "as we left them"}, True),
        ({"state": "confirmed", "spec": SPEC, "boot_known": "b"}, False),
        ({"state": "confirmed", "spec": SPEC, "boot_known": "the boot before"}, True),
    ],
)
def test_nothing_changes_only_while_what_is_wanted_is_in_force_untouched_and_long_enough(
    seen: dict[str, Any], cuts: bool
) -> None:
    full = {
        "spec": "",
        "left_s": 3600,
        "rules": "r",
        "rules_known": "",
        "boot": "b",
        "boot_known": "",
        "wanted": wanted(),
        **seen,
    }
    changes = ISOLATE.plan(PARAMS, full)
    assert bool(changes) is cuts
    for change in changes:
        assert change.data == full["wanted"]
        assert change.summary == "cut web-1 off the network for 3600 s, leaving SSH from 10.0.0.1"


def test_the_rules_come_from_the_inventory_and_the_parameters_alone() -> None:
    data = wanted(management=("10.0.0.0/25", "10.0.0.128/25", "fd00::1/128"), allow=("udp:10.0.0.53:53",))
    assert data["management"] == ["10.0.0.0/24", "fd00::1"]
    assert data["allow"] == ["udp:10.0.0.53:53"]
    assert data["spec"] != SPEC


def test_no_management_network_no_cut() -> None:
    with pytest.raises(ConfigurationError, match=r"management.*inventory\.yaml"):
        wanted(management=())


@pytest.mark.parametrize("flow", ["10.0.0.53:53", "udp:dns:53", "tcp:10.0.0.1:22;reboot", "udp:fd00::1:53"])
def test_what_is_no_flow_is_refused_before_anything_is_sent(flow: str) -> None:
    with pytest.raises(ConfigurationError, match="not a flow"):
        wanted(allow=(flow,))


@pytest.mark.parametrize(("text", "seconds"), [("8h", 28800.0), (600, 600.0), ("90s", 90.0), (600.4, 600.0)])
def test_leases_are_written_as_durations_or_seconds(text: Any, seconds: float) -> None:
    assert IsolateParams(host="web-1", lease=text).lease == seconds


@pytest.mark.parametrize("lease", ["10s", 0, "forever", -1])
def test_a_lease_that_makes_no_sense_is_refused(lease: Any) -> None:
    with pytest.raises(ValidationError):
        IsolateParams(host="web-1", lease=lease)


def test_apply_carries_the_epoch_and_every_argument_can_be_sent() -> None:
    shell = FakeShell({"isolate.sh apply": "state=armed\nbackend=nft\nwas=absent\n"})
    (change,) = ISOLATE.plan(PARAMS, {"state": "absent", "spec": "", "left_s": 0, "rules": "", "rules_known": "",
                                      "boot": "", "boot_known": "",
                                      "wanted": wanted(allow=("tcp:[fd00::5]:443",))})  # fmt: skip
    ISOLATE.apply(change, context(shell=shell))
    ((script, args, fresh),) = shell.calls
    assert (script, fresh) == ("isolate.sh", False)
    assert args[:5] == ("apply", "--epoch", "7", "--step", "containment/isolate-host_2.isolate@web-1")
    assert args[5:] == ("--spec", change.data["spec"], "--deadman", "60", "--management", "10.0.0.1",
                        "--allow", "tcp:[fd00::5]:443")  # fmt: skip


def verify(before: str, after: str, confirm: Any, *, status: Any = None, applied: bool = True) -> tuple[Any, FakeShell]:
    shell = FakeShell({"isolate.sh confirm": confirm, "isolate.sh status": status or report("confirmed")})
    seen = {"state": "absent", "probe": before, "probe_s": 0.001, "wanted": wanted(), "probe_before_cut": ""}
    done = ({"state": "armed"},) if applied else ()
    return ISOLATE.verify(PARAMS, seen, done, context(shell=shell, prober=FakeProber([after]))), shell


@pytest.mark.parametrize(
    ("before", "after", "confirmed", "dropped", "passed"),
    [
        ("refused", "silent", "confirmed", 0, True),
        ("open", "silent", "confirmed", 0, True),
        ("refused", "refused", "confirmed", 9, False),
        ("refused", "open", "confirmed", 9, False),
        ("silent", "silent", "confirmed", 3, True),
        ("silent", "silent", "confirmed", 0, False),
        ("refused", "silent", "expired", 0, False),
    ],
)
def test_both_sides_must_prove_it(before: str, after: str, confirmed: str, dropped: int, passed: bool) -> None:
    said = report(confirmed, dropped=dropped)
    proof, _ = verify(before, after, said, status=said)
    assert proof.passed is passed


def test_the_confirmation_comes_over_a_new_connection() -> None:
    _, shell = verify("refused", "silent", report("confirmed"))
    assert shell.verbs() == ["confirm (new connection)"]


def test_when_nothing_had_to_change_the_new_connection_only_looks() -> None:
    proof, shell = verify("silent", "silent", report("confirmed"), status=report("confirmed", dropped=2), applied=False)
    assert proof.passed
    assert shell.verbs() == ["status (new connection)", "status"]


@pytest.mark.parametrize(
    "error",
    [HostUnreachable("no answer", where="web-1"), Completed(75, b"", b"irflow: nothing to confirm\n", 0.1)],
)
def test_no_way_in_is_a_failed_proof_without_a_lease_that_says_what_happens(error: Any) -> None:
    proof, _ = verify("refused", "silent", error)
    assert not proof.passed
    assert proof.leases == ()
    assert "the kernel opens web-1 again within 60 s" in proof.facts["reverts"]


def test_an_unknown_confirmation_is_not_a_verdict() -> None:
    with pytest.raises(ConnectionLost):
        verify("refused", "silent", ConnectionLost("gone", where="web-1"))


def test_a_confirmed_cut_whose_probe_still_answers_is_a_failure_that_stays_watched() -> None:
    proof, _ = verify("refused", "open", report("confirmed"))
    assert not proof.passed
    assert [one["kind"] for one in proof.leases] == ["isolation"]


def renew(first: str, confirm: str = "", boot: str = "") -> tuple[Any, FakeShell]:
    shell = FakeShell({"isolate.sh renew": first, "isolate.sh confirm": confirm})
    about = context(shell=shell)
    about.status.steps[about.step.key] = StepStatus(about.step.key, outcome={"facts": {"rules": "abc", "boot": boot}})
    return ISOLATE.renew(PARAMS, about), shell


def test_a_renewal_prolongs_and_knows_the_rules_it_left() -> None:
    proof, shell = renew(report("confirmed", renewed="prolonged"))
    assert proof.passed
    assert "drift" not in proof.facts
    args = shell.calls[0][1]
    assert args[args.index("--rules") + 1] == "abc"


def test_a_renewal_that_had_to_cut_again_confirms_and_says_drift() -> None:
    proof, shell = renew(report("armed", renewed="armed", drift="absent"), report("confirmed"))
    assert proof.passed
    assert proof.facts["drift"] == "absent"
    assert shell.verbs() == ["renew", "confirm (new connection)"]


@pytest.mark.parametrize(
    ("first", "drift"),
    [
        ({"renewed": "armed", "drift": "absent", "boot": "after"}, "rebooted"),
        ({"renewed": "armed", "drift": "absent", "boot": "before"}, "absent"),
        ({"renewed": "armed", "drift": "rules_changed", "boot": "after"}, "rules_changed"),
        ({"renewed": "prolonged", "boot": "after"}, "rebooted"),
        ({"renewed": "prolonged", "boot": "before"}, None),
    ],
)
def test_a_host_that_was_rebooted_is_told_from_one_whose_table_was_deleted(
    first: dict[str, Any], drift: str | None
) -> None:
    proof, _ = renew(report("confirmed", **first), report("confirmed", boot="after"), boot="before")
    assert proof.passed
    assert proof.facts.get("drift") == drift


@pytest.mark.parametrize(("status", "hint"), [(77, "sudo"), (69, "nftables"), (75, "taken over")])
def test_a_refusal_says_what_to_do(status: int, hint: str) -> None:
    shell = FakeShell({"isolate.sh status": Completed(status, b"", b"warning\nirflow: no\n", 0.1)})
    with pytest.raises(RemoteFailed, match="irflow: no") as caught:
        ISOLATE.observe(PARAMS, context(shell=shell, prober=FakeProber(["refused"])))
    assert caught.value.status == status
    assert hint in caught.value.hint


def test_the_probe_never_knocks_on_the_ssh_port() -> None:
    for port, knocked in ((22, 9), (9, 1)):
        prober = FakeProber(["refused"])
        ISOLATE.observe(
            PARAMS, context(shell=FakeShell({"isolate.sh status": report("absent")}), prober=prober, port=port)
        )
        assert prober.ports == [knocked]
