"""Which addresses may be blocked, when a host is changed, and what counts as proof."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions.network_block_ip import BlockParams, NetworkBlockIp
from irflow.core.action import Change
from irflow.core.errors import ConnectionLost, HostUnreachable, Refused, RemoteFailed
from irflow.core.status import StepStatus
from tests.fakes.remote import FakeShell, context

BLOCK = NetworkBlockIp()
ADDRESSES = ("203.0.113.9", "2001:db8::/32")
PARAMS = BlockParams(host="web-1", addresses=ADDRESSES)


def report(state: str, *, left: int = 28800, **more: Any) -> str:
    lines = {"backend": "nft", "state": state, "left": left, "spec": "", "rules": "r", "boot": "b"}
    return "".join(f"{key}={value}\n" for key, value in {**lines, **more}.items())


def wanted(params: BlockParams = PARAMS, **host: Any) -> dict[str, Any]:
    data = BLOCK.observe(params, context(shell=FakeShell({"block.sh status": report("absent")}), **host))["wanted"]
    assert isinstance(data, dict)
    return data


WANTED = wanted()


# ---------------------------------------------------------------- what may be blocked


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["203.0.113.9"], ("203.0.113.9",)),
        ([" 203.0.113.9/32 "], ("203.0.113.9",)),
        (["203.0.113.77/24"], ("203.0.113.0/24",)),
        (["203.0.113.9", "203.0.113.0/24", "203.0.113.9"], ("203.0.113.0/24",)),
        (["203.0.113.0/25", "203.0.113.128/25"], ("203.0.113.0/24",)),
        (["2001:DB8::0:1", "203.0.113.9"], ("203.0.113.9", "2001:db8::1")),
        (["2001:db8::1/128", "2001:db8::/64"], ("2001:db8::/64",)),
        (["::ffff:203.0.113.9"], ("203.0.113.9",)),
        (["::ffff:203.0.113.0/120"], ("203.0.113.0/24",)),
    ],
)
def test_addresses_are_kept_in_one_form_without_overlaps(given: list[str], kept: tuple[str, ...]) -> None:
    assert BlockParams(host="web-1", addresses=tuple(given)).addresses == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0.0.0/0", "is everything"),
        ("::/0", "is everything"),
        ("1.2.3.4/0", "is everything"),
        ("::ffff:0:0/96", "is everything"),
        ("0.0.0.0/1", "is this network"),
        ("128.0.0.0/1", "link-local"),
        ("::/1", "is no address"),
        ("8000::/1", "link-local"),
        ("0.0.0.0", "this network"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "one link only"),
        ("2001:db8::1%eth0", "one link only"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("evil.example", "no address or network"),
        ("203.0.113.9; reboot", "no address or network"),
        ("203.0.113.300", "no address or network"),
        ("203.0.113.9/33", "no address or network"),
        ("", "no address or network"),
    ],
)
def test_what_nobody_attacks_from_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BlockParams(host="web-1", addresses=("203.0.113.9", text))


@pytest.mark.parametrize("addresses", [(), ("203.0.113.9",) * 1001])
def test_a_step_blocks_something_and_not_too_much(addresses: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        BlockParams(host="web-1", addresses=addresses)


@pytest.mark.parametrize("lease", ["10s", 0, "forever", -1])
def test_a_lease_that_makes_no_sense_is_refused(lease: Any) -> None:
    with pytest.raises(ValidationError):
        BlockParams(host="web-1", addresses=ADDRESSES, lease=lease)


@pytest.mark.parametrize(
    ("addresses", "host", "said"),
    [
        (("10.0.0.1",), {}, "10.0.0.1 is inside irflow's own management network 10.0.0.1/32 of web-1"),
        (("10.0.0.0/8",), {}, "inside irflow's own management network"),
        (("fd00::/8",), {"management": ("fd00::5/128",)}, "inside irflow's own management network fd00::5/128"),
        (("192.0.2.1",), {}, "192.0.2.1 is web-1 itself"),
        (("10.1.0.0/16",), {"allow": ("udp:10.1.0.53:53",)}, "would cut udp:10.1.0.53:53"),
        (("fd01::53",), {"allow": ("tcp:[fd01::/64]:443",)}, r"would cut tcp:\[fd01::/64\]:443"),
    ],
)
def test_what_the_responder_or_the_host_needs_is_refused_before_anything_is_sent(
    addresses: tuple[str, ...], host: dict[str, Any], said: str
) -> None:
    shell = FakeShell()
    with pytest.raises(Refused, match=said):
        BLOCK.observe(BlockParams(host="web-1", addresses=("203.0.113.9", *addresses)), context(shell=shell, **host))
    assert shell.calls == []


# ---------------------------------------------------------------- when something changes


@pytest.mark.parametrize(
    ("seen", "blocks"),
    [
        ({"state": "absent"}, True),
        ({"state": "expired"}, True),
        ({"state": "armed", "spec": WANTED["spec"]}, True),
        ({"state": "confirmed"}, False),
        ({"state": "confirmed", "left_s": 14400}, False),
        ({"state": "confirmed", "left_s": 14399}, True),
        ({"state": "confirmed", "spec": "another"}, True),
        ({"state": "confirmed", "rules_known": "r"}, False),
        ({"state": "confirmed", "rules_known": "as we left them"}, True),
        ({"state": "confirmed", "boot_known": "the boot before"}, True),
    ],
)
def test_nothing_changes_only_while_what_is_wanted_is_in_force_untouched_and_long_enough(
    seen: dict[str, Any], blocks: bool
) -> None:
    full = {
        "spec": WANTED["spec"], "left_s": 28800, "rules": "r", "rules_known": "", "boot": "b", "boot_known": "",
        "wanted": WANTED, **seen,
    }  # fmt: skip
    changes = BLOCK.plan(PARAMS, full)
    assert bool(changes) is blocks
    for change in changes:
        assert change.data == WANTED
        assert change.summary == "block 203.0.113.9, 2001:db8::/32 in and out on web-1 for 8 h"


@pytest.mark.parametrize(
    ("lease", "said"), [("90m", "90 min"), ("2h", "2 h"), ("1d", "24 h"), (100, "100 s"), ("60s", "1 min")]
)
def test_the_summary_names_the_time_and_at_most_three_addresses(lease: Any, said: str) -> None:
    many = tuple(f"203.0.113.{2 * n}" for n in range(5))
    params = BlockParams(host="web-1", addresses=many, lease=lease)
    seen = BLOCK.observe(params, context(shell=FakeShell({"block.sh status": report("absent")})))
    (change,) = BLOCK.plan(params, seen)
    names = "203.0.113.0, 203.0.113.2, 203.0.113.4 and 2 more"
    assert change.summary == f"block {names} in and out on web-1 for {said}"
    assert change.data["addresses"] == list(many)


def test_each_step_and_each_incident_has_an_object_and_a_lease_of_its_own() -> None:
    here = context(shell=FakeShell({"block.sh status": report("absent")}))
    other_step = replace(here, step=here.step.model_copy(update={"key": "containment/another@web-1"}))
    other_incident = replace(here, incident=here.incident.model_copy(update={"id": "01JOTHEROTHEROTHEROTHEROTH"}))
    every = [BLOCK.observe(PARAMS, one)["wanted"] for one in (here, other_step, other_incident)]
    assert len({one["id"] for one in every}) == 3
    assert len({one["kind"] for one in every}) == 3
    assert BLOCK.observe(PARAMS, here)["wanted"] == WANTED


def test_a_step_that_joined_another_incident_keeps_its_object() -> None:
    here = context(shell=FakeShell({"block.sh status": report("absent")}))
    joined = replace(here, incident=here.incident.model_copy(update={"id": "01JOTHEROTHEROTHEROTHEROTH"}))
    record = Change("block", WANTED).to_data()
    joined.status.steps[here.step.key] = StepStatus(here.step.key, "web-1", intended=(record,))
    assert BLOCK.observe(PARAMS, joined)["wanted"] == WANTED


def test_every_argument_can_be_sent_and_carries_the_epoch() -> None:
    shell = FakeShell({"block.sh apply": "state=armed\nbackend=nft\nwas=absent\n"})
    (change,) = BLOCK.plan(PARAMS, {"state": "absent", "spec": "", "left_s": 0, "rules": "", "rules_known": "",
                                    "boot": "", "boot_known": "", "wanted": WANTED})  # fmt: skip
    BLOCK.apply(change, context(shell=shell))
    ((script, args, fresh),) = shell.calls
    assert (script, fresh) == ("block.sh", False)
    assert args == (
        "apply", "--epoch", "7", "--step", "containment/isolate-host_2.isolate@web-1", "--id", WANTED["id"],
        "--spec", WANTED["spec"], "--addresses", "203.0.113.9,2001:db8::/32", "--deadman", "60",
    )  # fmt: skip


# ---------------------------------------------------------------- proof


def verify(hold: Any, *, applied: bool = True, status: Any = None, known: dict[str, Any] | None = None) -> Any:
    shell = FakeShell({"block.sh hold": hold, "block.sh status": status or report("absent")})
    here = context(shell=shell)
    if known is not None:
        here.status.steps[here.step.key] = StepStatus(here.step.key, "web-1", outcome={"facts": known})
    seen = {"state": "absent", "wanted": WANTED}
    return BLOCK.verify(PARAMS, seen, ({"state": "armed"},) if applied else (), here), shell


HELD = report("confirmed", spec=WANTED["spec"]) + "probe_203.0.113.9=dropped\nprobe_2001:db8::=dropped\n"


def test_a_block_is_held_over_a_new_connection_and_tried_out() -> None:
    proof, shell = verify(HELD)
    assert proof.passed
    ((_, args, fresh),) = shell.calls
    assert fresh
    assert args[-4:] == ("--ttl", "28800", "--probe", "203.0.113.9,2001:db8::")
    assert [one.name for one in proof.checks] == [
        "responder gets in over a new connection",
        "the kernel holds the block",
        "the kernel drops what is sent to 203.0.113.9",
        "the kernel drops what is sent to 2001:db8::",
    ]
    (lease,) = proof.leases
    assert lease["kind"] == WANTED["kind"]
    assert lease["kind"].startswith("block 203.0.113.9, 2001:db8::/32 (")
    assert lease["seconds"] == 28800.0


def test_a_datagram_that_got_out_fails_the_proof_but_the_lease_is_watched() -> None:
    proof, _ = verify(HELD.replace("9=dropped", "9=sent"))
    assert proof.failed == ("the kernel drops what is sent to 203.0.113.9",)
    assert len(proof.leases) == 1


def test_without_a_route_nothing_is_proved_by_sending_and_nothing_is_claimed() -> None:
    proof, _ = verify(HELD.replace("::=dropped", "::=no_route"))
    assert proof.passed
    assert len(proof.checks) == 3


@pytest.mark.parametrize("state", ["armed", "expired", "absent"])
def test_what_the_kernel_does_not_hold_is_no_block(state: str) -> None:
    proof, _ = verify(report(state, spec=WANTED["spec"]))
    assert proof.failed == ("the kernel holds the block",)
    assert proof.leases == ()


def test_nobody_gets_in_anew_the_kernel_lifts_it_and_says_so() -> None:
    proof, _ = verify(HostUnreachable("no answer", where="web-1"))
    assert proof.failed == ("responder gets in over a new connection",)
    assert proof.leases == ()
    assert "lifts the block on web-1 within 60 s" in proof.facts["reverts"]


def test_an_unknown_outcome_is_left_to_the_engine() -> None:
    with pytest.raises(ConnectionLost):
        verify(ConnectionLost("gone", where="web-1"))


def test_where_nothing_was_applied_it_only_looks() -> None:
    proof, shell = verify(AssertionError(), applied=False, status=report("confirmed", spec=WANTED["spec"]))
    assert proof.passed
    assert shell.verbs() == ["status (new connection)"]


def test_the_weaker_way_is_named() -> None:
    proof, _ = verify(HELD.replace("nft", "iptables"))
    assert "wall clock" in proof.facts["weaker"]
    assert "weaker" not in verify(HELD)[0].facts


def test_the_lease_of_fewer_addresses_ends_when_more_are_blocked() -> None:
    proof, _ = verify(HELD, known={"lease": "block 203.0.113.9 (aaaaaa)"})
    assert proof.ended_leases == ("block 203.0.113.9 (aaaaaa)",)
    assert verify(HELD, known={"lease": WANTED["kind"]})[0].ended_leases == ()


# ---------------------------------------------------------------- renew and undo


def test_renewing_prolongs_in_one_call() -> None:
    shell = FakeShell({"block.sh renew": report("confirmed", spec=WANTED["spec"], renewed="prolonged")})
    proof = BLOCK.renew(PARAMS, context(shell=shell))
    assert proof.passed
    assert shell.verbs() == ["renew"]
    assert "drift" not in proof.facts


@pytest.mark.parametrize(
    ("drift", "boot", "said"),
    [("absent", "b", "absent"), ("absent", "other", "rebooted"), ("rules_changed", "b", "rules_changed")],
)
def test_what_was_lifted_is_blocked_again_held_anew_and_named(drift: str, boot: str, said: str) -> None:
    again = report("armed", renewed="armed", drift=drift, boot=boot)
    shell = FakeShell({"block.sh renew": again, "block.sh hold": HELD})
    here = context(shell=shell)
    here.status.steps[here.step.key] = StepStatus(
        here.step.key, "web-1", outcome={"facts": {"rules": "r", "boot": "b"}}
    )
    proof = BLOCK.renew(PARAMS, here)
    assert proof.passed
    assert proof.facts["drift"] == said
    assert shell.verbs() == ["renew", "hold (new connection)"]
    assert shell.calls[0][1][-2:] == ("--rules", "r")


def test_undo_needs_only_the_change() -> None:
    gone = report("absent", was="confirmed", restored="identical")
    shell = FakeShell({"block.sh undo": gone, "block.sh status": report("absent")})
    (change,) = BLOCK.plan(PARAMS, {"state": "absent", "spec": "", "left_s": 0, "rules": "", "rules_known": "",
                                    "boot": "", "boot_known": "", "wanted": WANTED})  # fmt: skip
    proof = BLOCK.undo(change, context(shell=shell, management=()))
    assert proof.passed
    assert proof.ended_leases == (WANTED["kind"],)
    assert shell.verbs() == ["undo", "status (new connection)"]


def test_a_block_that_is_still_there_is_no_undo() -> None:
    shell = FakeShell({"block.sh undo": report("absent", restored="identical"), "block.sh status": report("confirmed")})
    change = BLOCK.plan(PARAMS, {"state": "absent", "spec": "", "left_s": 0, "rules": "", "rules_known": "",
                                 "boot": "", "boot_known": "", "wanted": WANTED})[0]  # fmt: skip
    assert BLOCK.undo(change, context(shell=shell)).failed == ("block is gone",)


def test_a_refusal_of_the_host_is_passed_on() -> None:
    shell = FakeShell({"block.sh status": RemoteFailed("block.sh status ended with status 69", where="web-1")})
    with pytest.raises(RemoteFailed):
        BLOCK.observe(PARAMS, context(shell=shell))
