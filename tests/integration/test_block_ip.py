"""A blocked address gets no answer and loses its open session; everyone else gets through; undo leaves no trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from irflow.actions.host_isolate import HostIsolate
from irflow.actions.network_block_ip import BlockParams, NetworkBlockIp
from irflow.core.action import Change, Context
from irflow.core.errors import Refused, RemoteFailed
from irflow.lab.lab import Lab
from irflow.lab.layout import VISITOR
from irflow.lab.model import LabHost, Level
from irflow.lab.session import Session
from irflow.lab.vantage import tcp
from tests.integration.lab_actions import Hands
from tests.services.on_host import on, until

BLOCK, ISOLATE = NetworkBlockIp(), HostIsolate()
SCRIPT = "block.sh"

# Rules of the host's own, as docker and firewalld leave them: accepting first, with their own NAT.
OWN_RULES = b"""
table ip nat {
	chain DOCKER { }
	chain PREROUTING {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local counter jump DOCKER
	}
}
table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority 10; policy accept;
		ct state established,related accept
		tcp dport 22 accept
	}
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(3, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture
def host(lab: Lab, hands: Hands) -> Iterator[LabHost]:
    """A host that is as it was born, before and after, and of which no outcome is known."""
    one = lab.hosts[0]
    yield one
    on(lab, one, "nft flush ruleset; rm -rf /var/lib/irflow")
    hands.status.steps.clear()


def ruleset(lab: Lab, host: LabHost) -> str:
    """Everything, handles included, so that a table that was dumped and loaded again shows."""
    return on(lab, host, "nft -s -a list ruleset")


def sees(lab: Lab, host: LabHost, vantage: str) -> tuple[str, str]:
    """What a vantage point gets from the SSH port, over IPv4 and IPv6."""
    v4, v6 = (tcp(lab.netns(vantage), one, 22, timeout_s=0.3) for one in (host.address, host.address6))
    return v4, v6


OPEN, SILENT = ("open", "open"), ("silent", "silent")


def as_step(context: Context, key: str) -> Context:
    """The same context for another step."""
    return replace(context, step=context.step.model_copy(update={"key": key}))


def run(hands: Hands, context: Context, **params: Any) -> Change:
    """Observe, plan, apply and verify a step of any key; its one change."""
    checked = BlockParams.model_validate({"host": context.step.target, **params})
    seen = BLOCK.observe(checked, context)
    (change,) = BLOCK.plan(checked, seen)
    proof = BLOCK.verify(checked, seen, (BLOCK.apply(change, context),), context)
    assert proof.passed, proof
    hands.remember(context.step.key, context.step.target, proof)
    return change


def tables(lab: Lab, host: LabHost) -> list[str]:
    return [one for one in on(lab, host, "nft list tables").splitlines() if "irflow_block" in one]


# ---------------------------------------------------------------- the whole action


def test_the_blocked_address_gets_no_answer_and_its_session_dies_while_others_get_through(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    on(lab, host, "nft -f -", OWN_RULES)
    before = ruleset(lab, host)
    session = Session(lab, host)
    try:
        assert sees(lab, host, "attacker") == OPEN
        changes, proof = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
        assert proof.passed, proof
        (change,) = changes
        assert change.summary == f"block 10.77.0.66, fd77::66 in and out on {host.name} for 8 h"
        assert not session.echoes(0.5)
        assert sees(lab, host, "attacker") == SILENT
        assert sees(lab, host, "visitor") == OPEN
        assert sees(lab, host, "responder") == OPEN
        checks = {one.name: one.after for one in proof.checks}
        assert checks["the kernel drops what is sent to 10.77.0.66"] == "dropped"
        assert checks["the kernel drops what is sent to fd77::66"] == "dropped"
        undone = BLOCK.undo(change, hands.context(BLOCK, host.name))
        assert undone.passed, undone
        assert undone.facts["restored"] == "identical"
        assert undone.ended_leases == (proof.leases[0]["kind"],)
        assert ruleset(lab, host) == before
        assert sees(lab, host, "attacker") == OPEN
        assert session.echoes(5)
    finally:
        session.close()


def test_nothing_is_sent_to_a_blocked_address_not_even_a_datagram(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    send = "bash -c 'echo x >/dev/udp/{}/9' 2>&1 || :"
    for blocked, free in zip(lab.attacker_addresses, VISITOR, strict=True):
        assert "Operation not permitted" in on(lab, host, send.format(blocked))
        assert on(lab, host, send.format(free)) == ""


def arrived(text: str) -> tuple[int, int]:
    """Datagrams that came in for a port where nobody listens, over IPv4 and IPv6: /proc/net/snmp and snmp6."""
    (v4,) = (line.split()[2] for line in text.splitlines() if line.startswith("Udp: ") and "NoPorts" not in line)
    (v6,) = (line.split()[1] for line in text.splitlines() if line.startswith("Udp6NoPorts"))
    return int(v4), int(v6)


SNMP = ["cat", "/proc/net/snmp", "/proc/net/snmp6"]


def test_nothing_from_a_blocked_address_comes_in_not_even_a_datagram(lab: Lab, hands: Hands, host: LabHost) -> None:
    """TCP would be silent already because no answer gets out; UDP needs none."""
    hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    before = arrived(on(lab, host, " ".join(SNMP)))
    for party in ("attacker", "visitor"):
        for address in (host.address, host.address6):
            lab.run_from(party, ["bash", "-c", f"echo x >/dev/udp/{address}/9"])
    one_each = (before[0] + 1, before[1] + 1)
    assert until(lambda: arrived(on(lab, host, " ".join(SNMP))) >= one_each, 3)
    assert arrived(on(lab, host, " ".join(SNMP))) == one_each


def test_a_network_is_blocked_and_the_address_beside_it_is_not(lab: Lab, hands: Hands, host: LabHost) -> None:
    _, proof = hands.run(BLOCK, host.name, addresses=["10.77.0.64/27", "fd77::60/123"], lease="2h")
    assert proof.passed, proof
    (lease,) = proof.leases
    assert lease["kind"].startswith("block 10.77.0.64/27, fd77::60/123 (")
    assert lease["seconds"] == 7200
    assert 7190 < proof.facts["left_s"] <= 7200
    assert sees(lab, host, "attacker") == SILENT
    assert sees(lab, host, "visitor") == OPEN


@contextmanager
def router(lab: Lab, host: LabHost) -> Iterator[str]:
    """The host as a router: a network behind it, through which the others reach it. Gives what to put before a command
    that is to run there."""
    on(lab, host, """
        unshare -n sleep 60 >/dev/null 2>&1 </dev/null & pid=$!; echo $pid >/run/behind.pid
        while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
        ip link add inside type veth peer name eth0 netns $pid
        ip addr add 10.99.0.1/24 dev inside; ip addr add fd99::1/64 dev inside nodad; ip link set inside up
        nsenter -t $pid -n sh -c 'ip link set lo up; ip link set eth0 up
            ip addr add 10.99.0.2/24 dev eth0; ip addr add fd99::2/64 dev eth0 nodad
            ip route add default via 10.99.0.1; ip route add default via fd99::1'
        echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    """)  # fmt: skip
    routes = [(party, *way) for party in ("attacker", "visitor")
              for way in (("10.99.0.0/24", host.address), ("fd99::/64", host.address6))]  # fmt: skip
    try:
        for party, network, gateway in routes:
            lab.run_from(party, ["ip", "route", "add", network, "via", gateway])
        yield "nsenter -t $(cat /run/behind.pid) -n"
    finally:
        for party, network, _ in routes:
            lab.run_from(party, ["ip", "route", "del", network])
        on(
            lab,
            host,
            "kill $(cat /run/behind.pid); rm /run/behind.pid; ip link del inside 2>/dev/null || :; "
            "for one in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 0 >/proc/sys/net/$one; done",
        )


def test_what_is_forwarded_is_blocked_too(lab: Lab, hands: Hands, host: LabHost) -> None:
    def reach(party: str) -> tuple[str, str]:
        v4, v6 = (tcp(lab.netns(party), one, 9, timeout_s=0.3) for one in ("10.99.0.2", "fd99::2"))
        return v4, v6

    def heard(party: str) -> tuple[int, int]:
        return arrived(lab.run_from(party, SNMP).stdout.decode())

    with router(lab, host) as behind:
        assert until(lambda: (reach("attacker"), reach("visitor")) == (("refused", "refused"),) * 2, 5)
        hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
        assert (reach("attacker"), reach("visitor")) == (SILENT, ("refused", "refused"))
        attacker, visitor = heard("attacker"), heard("visitor")
        for address in (*lab.attacker_addresses, *VISITOR):
            on(lab, host, f"{behind} bash -c 'echo x >/dev/udp/{address}/9'")
        assert until(lambda: heard("visitor") == (visitor[0] + 1, visitor[1] + 1), 3)
        assert heard("attacker") == attacker


def test_a_second_run_changes_nothing_and_proves_it_again(lab: Lab, hands: Hands, host: LabHost) -> None:
    _, first = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    rules = ruleset(lab, host)
    changes, proof = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    assert changes == ()
    assert proof.passed
    assert proof.leases[0]["kind"] == first.leases[0]["kind"]
    assert ruleset(lab, host) == rules


def test_an_address_added_to_the_step_joins_and_the_old_lease_ends(lab: Lab, hands: Hands, host: LabHost) -> None:
    _, first = hands.run(BLOCK, host.name, addresses=["10.77.0.66"])
    assert sees(lab, host, "attacker") == ("silent", "open")
    changes, proof = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    assert proof.passed
    assert sees(lab, host, "attacker") == SILENT
    assert proof.ended_leases == (first.leases[0]["kind"],)
    assert len(tables(lab, host)) == 1
    assert BLOCK.undo(changes[0], hands.context(BLOCK, host.name)).facts["restored"] == "identical"


# ---------------------------------------------------------------- overlaps


@pytest.mark.parametrize("second", [["10.77.0.66", "fd77::66"], ["10.77.0.64/27", "fd77::60/123"]])
def test_undoing_one_block_does_not_lift_another_of_the_same_address(
    lab: Lab, hands: Hands, host: LabHost, second: list[str]
) -> None:
    before = ruleset(lab, host)
    one = as_step(hands.context(BLOCK, host.name), "containment/block-ips.block@web-1")
    other = as_step(hands.context(BLOCK, host.name), "containment/block-ips#2.block@web-1")
    first_change = run(hands, one, addresses=lab.attacker_addresses)
    second_change = run(hands, other, addresses=second)
    assert first_change.data["kind"] != second_change.data["kind"]
    undone = BLOCK.undo(first_change, one)
    assert undone.passed
    assert undone.facts["restored"] == "identical"
    assert sees(lab, host, "attacker") == SILENT
    undone = BLOCK.undo(second_change, other)
    assert undone.facts["restored"] == "identical"
    assert sees(lab, host, "attacker") == OPEN
    assert ruleset(lab, host) == before


def test_the_same_step_of_another_incident_holds_its_own_block(lab: Lab, hands: Hands, host: LabHost) -> None:
    mine = hands.context(BLOCK, host.name)
    elsewhere = mine.incident.model_copy(update={"id": "01JOTHEROTHEROTHEROTHEROTH", "number": "IR-2026-0002"})
    theirs = replace(mine, incident=elsewhere, epoch=mine.epoch + 1)
    change = run(hands, mine, addresses=lab.attacker_addresses)
    hands.status.steps.clear()
    run(hands, theirs, addresses=lab.attacker_addresses)
    assert len(tables(lab, host)) == 2
    assert BLOCK.undo(change, mine).passed
    assert sees(lab, host, "attacker") == SILENT


def test_a_block_and_an_isolation_stand_side_by_side_and_leave_nothing_in_any_order(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    on(lab, host, "nft -f -", OWN_RULES)
    before = ruleset(lab, host)
    (cut,), _ = hands.run(ISOLATE, host.name)
    (block,), proof = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    assert proof.passed, proof
    assert len([one for one in proof.checks if one.after == "dropped"]) == 2
    undone = ISOLATE.undo(cut, hands.context(ISOLATE, host.name))
    assert undone.passed
    assert undone.facts["restored"] == "identical"
    assert (sees(lab, host, "attacker"), sees(lab, host, "visitor")) == (SILENT, OPEN)
    assert BLOCK.undo(block, hands.context(BLOCK, host.name)).facts["restored"] == "identical"
    assert ruleset(lab, host) == before


# ---------------------------------------------------------------- interrupted, late, expired


def test_the_kernel_lifts_a_block_that_nobody_came_back_to_hold(lab: Lab, hands: Hands, host: LabHost) -> None:
    call(hands, host.name, "apply", "--id", "ab", "--addresses", "10.77.0.66", "--deadman", "2")
    assert sees(lab, host, "attacker") == ("silent", "open")
    assert until(lambda: sees(lab, host, "attacker") == OPEN, 4)
    status, said = refused(hands, host.name, "hold", "--id", "ab", "--ttl", "60")
    assert status == 75
    assert "dead-man has fired" in said


def test_a_held_block_ends_with_its_lease(lab: Lab, hands: Hands, host: LabHost) -> None:
    call(hands, host.name, "apply", "--id", "ab", "--addresses", "10.77.0.66", "--deadman", "1")
    call(hands, host.name, "hold", "--id", "ab", "--ttl", "3")
    held = time.monotonic()
    assert until(lambda: sees(lab, host, "attacker") == OPEN, 6)
    assert time.monotonic() - held > 2.5


@pytest.mark.parametrize("done", ["nothing", "apply", "apply and hold"])
def test_killed_anywhere_a_second_run_converges_and_undo_is_clean(
    lab: Lab, hands: Hands, host: LabHost, done: str
) -> None:
    before = ruleset(lab, host)
    params = BlockParams(host=host.name, addresses=lab.attacker_addresses)
    context = hands.context(BLOCK, host.name)
    seen = BLOCK.observe(params, context)
    (change,) = BLOCK.plan(params, seen)
    applied = (BLOCK.apply(change, context),) if done != "nothing" else ()
    if done == "apply and hold":
        BLOCK.verify(params, seen, applied, context)
    changes, proof = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    assert proof.passed, proof
    assert bool(changes) == (done != "apply and hold")
    assert sees(lab, host, "attacker") == SILENT
    assert len(tables(lab, host)) == 1
    assert BLOCK.undo(change, hands.context(BLOCK, host.name)).facts["restored"] == "identical"
    assert ruleset(lab, host) == before


@pytest.mark.parametrize("applied", [False, True])
def test_undo_is_safe_when_apply_never_happened_or_was_never_held(
    lab: Lab, hands: Hands, host: LabHost, applied: bool
) -> None:
    before = ruleset(lab, host)
    params = BlockParams(host=host.name, addresses=lab.attacker_addresses)
    context = hands.context(BLOCK, host.name)
    (change,) = BLOCK.plan(params, BLOCK.observe(params, context))
    if applied:
        BLOCK.apply(change, context)
    assert BLOCK.undo(Change.from_data(change.to_data()), hands.context(BLOCK, host.name)).passed
    assert BLOCK.undo(change, hands.context(BLOCK, host.name)).passed
    assert ruleset(lab, host) == before


def test_a_writer_that_was_overtaken_can_do_nothing_and_other_steps_are_not_held_up(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    call(hands, host.name, "apply", "--id", "ab", "--addresses", "10.77.0.66", epoch=20)
    for late in (("hold", "--ttl", "9"), ("apply", "--addresses", "10.77.0.67"), ("undo",)):
        status, said = refused(hands, host.name, late[0], "--id", "ab", *late[1:], epoch=19)
        assert status == 75
        assert "epoch 19 is over" in said
    assert sees(lab, host, "attacker") == ("silent", "open")
    call(hands, host.name, "apply", "--id", "cd", "--addresses", "10.77.0.67", epoch=5)


# ---------------------------------------------------------------- drift


@pytest.mark.parametrize(
    ("tampering", "drift"),
    [
        ("nft flush ruleset", "absent"),
        ("nft delete table inet {table}", "absent"),
        ("nft delete element inet {table} blocked4 '{{ 10.77.0.66 }}'", "rules_changed"),
        (
            "for one in prerouting output postrouting; do nft insert rule inet {table} $one accept; done",
            "rules_changed",
        ),
        ("nft add table inet {table} '{{ flags dormant; }}'", "rules_changed"),
        ("nft flush set inet {table} armed", "expired"),
    ],
)
def test_a_block_that_somebody_lifted_is_found_and_put_back(
    lab: Lab, hands: Hands, host: LabHost, tampering: str, drift: str
) -> None:
    (change,), _ = hands.run(BLOCK, host.name, addresses=lab.attacker_addresses)
    params, context = BlockParams(host=host.name, addresses=lab.attacker_addresses), hands.context(BLOCK, host.name)
    assert BLOCK.plan(params, BLOCK.observe(params, context)) == ()
    on(lab, host, tampering.format(table=f"irflow_block_{change.data['id']}"))
    assert "open" in sees(lab, host, "attacker")
    assert BLOCK.plan(params, BLOCK.observe(params, context)) != ()
    proof = BLOCK.renew(params, context)
    assert proof.passed, proof
    assert proof.facts["drift"] == drift
    assert len(proof.leases) == 1
    assert sees(lab, host, "attacker") == SILENT


def test_renewing_what_is_in_force_only_prolongs_it(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(BLOCK, host.name, addresses=lab.attacker_addresses, lease=600)
    rules = ruleset(lab, host)
    params = BlockParams(host=host.name, addresses=lab.attacker_addresses, lease=600.0)
    context = hands.context(BLOCK, host.name)
    assert until(lambda: BLOCK.observe(params, context)["left_s"] < 599, 3)
    proof = BLOCK.renew(params, context)
    assert proof.passed, proof
    assert "drift" not in proof.facts
    assert proof.facts["left_s"] >= 599
    assert ruleset(lab, host) == rules


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.77.0.10", "inside irflow's own management network 10.77.0.10/32"),
        ("10.77.0.0/26", "inside irflow's own management network 10.77.0.10/32"),
        ("fd77::10", "inside irflow's own management network fd77::10/128"),
        ("10.77.1.1", "is web-1 itself"),
    ],
)
def test_what_the_responder_needs_is_refused_before_anything_is_sent(
    lab: Lab, hands: Hands, host: LabHost, address: str, said: str
) -> None:
    params = BlockParams(host=host.name, addresses=(address,))
    with pytest.raises(Refused, match="web-1: .*" + said):
        BLOCK.observe(params, hands.context(BLOCK, host.name))
    assert tables(lab, host) == []


@pytest.mark.parametrize("network", ["10.77.0.10", "10.77.0.8/29", "10.0.0.0/8", "8.0.0.0/6"])
def test_the_host_itself_refuses_to_block_the_session_that_asks(
    lab: Lab, hands: Hands, host: LabHost, network: str
) -> None:
    """Whatever the inventory says: it may not know the address that the host sees."""
    status, said = refused(hands, host.name, "apply", "--id", "ab", "--addresses", f"10.77.0.66,{network}")
    assert status == 64
    assert f"refusing to block '{network}': it has 10.77.0.10, where this session comes from" in said
    assert tables(lab, host) == []


@pytest.mark.parametrize(
    ("network", "covered"),
    [
        ("fd77::10", True), ("fd77::/64", True), ("fd77::/16", True), ("fd77::11", False), ("fd77::11/127", True),
        ("fd77::20/123", False), ("fd77:0:0:1::/64", False), ("10.77.0.10", False), ("fc00::/7", True),
    ],
)  # fmt: skip
def test_the_session_is_recognised_over_ipv6(
    lab: Lab, hands: Hands, host: LabHost, network: str, covered: bool
) -> None:
    hands.hosts["six"] = hands.hosts[host.name].model_copy(update={"name": "six", "address": host.address6})
    try:
        args = ("--epoch", "1", "--step", "s", "--id", "ab", "--addresses", network)
        done = hands.shell.run(hands.hosts["six"], SCRIPT, ["apply", *args], timeout_s=20, check=False)
    finally:
        del hands.hosts["six"]
    assert (done.status == 64) is covered, done
    assert (tables(lab, host) == []) is covered


def call(hands: Hands, name: str, verb: str, *args: str, epoch: int = 1) -> dict[str, str]:
    everything = [verb, "--epoch", str(epoch), "--step", "s", *args]
    done = hands.shell.run(hands.hosts[name], SCRIPT, everything, timeout_s=20)
    return dict(line.split("=", 1) for line in done.text.splitlines())


def refused(hands: Hands, name: str, verb: str, *args: str, epoch: int = 1) -> tuple[int, str]:
    """Exit status and message of a call that must not work."""
    everything = [verb, "--epoch", str(epoch), "--step", "s", *args]
    done = hands.shell.run(hands.hosts[name], SCRIPT, everything, timeout_s=20, check=False)
    assert done.status != 0, done.text
    return done.status, done.stderr.decode()


# ---------------------------------------------------------------- where there is no nft


@pytest.fixture
def old_host(lab: Lab, hands: Hands) -> Iterator[LabHost]:
    """A host without nft."""
    one = lab.hosts[2]
    on(lab, one, "mv /usr/sbin/nft /usr/sbin/nft.away")
    yield one
    on(lab, one, "mv /usr/sbin/nft.away /usr/sbin/nft; nft flush ruleset; rm -rf /var/lib/irflow")
    hands.status.steps.clear()


SAVED = "for one in iptables ip6tables; do $one-save | sed 's/\\[[0-9:]*\\]//; /^#/d'; done"


def test_without_nft_iptables_blocks_and_says_that_it_is_weaker(lab: Lab, hands: Hands, old_host: LabHost) -> None:
    on(lab, old_host, "for one in iptables ip6tables; do $one -A INPUT -p tcp --dport 22 -j ACCEPT; done")
    before = on(lab, old_host, SAVED)
    session = Session(lab, old_host)
    try:
        (change,), proof = hands.run(BLOCK, old_host.name, addresses=lab.attacker_addresses)
        assert proof.passed, proof
        assert proof.facts["backend"] == "iptables"
        assert "wall clock" in proof.facts["weaker"]
        assert not session.echoes(0.5)
        assert sees(lab, old_host, "attacker") == SILENT
        assert sees(lab, old_host, "visitor") == OPEN
        assert hands.run(BLOCK, old_host.name, addresses=lab.attacker_addresses)[0] == ()
        on(lab, old_host, "iptables -F INPUT")
        params = BlockParams(host=old_host.name, addresses=lab.attacker_addresses)
        again = BLOCK.renew(params, hands.context(BLOCK, old_host.name))
        assert again.passed, again
        assert again.facts["drift"] == "expired"
        assert sees(lab, old_host, "attacker") == SILENT
        on(lab, old_host, "iptables -A INPUT -p tcp --dport 22 -j ACCEPT")
        undone = BLOCK.undo(change, hands.context(BLOCK, old_host.name))
        assert undone.passed, undone
        assert on(lab, old_host, SAVED) == before
        assert sees(lab, old_host, "attacker") == OPEN
        assert session.echoes(5)
    finally:
        session.close()


def test_without_nft_a_block_ends_by_itself_too(lab: Lab, hands: Hands, old_host: LabHost) -> None:
    call(hands, old_host.name, "apply", "--id", "ab", "--addresses", "10.77.0.66", "--deadman", "2")
    assert sees(lab, old_host, "attacker") == ("silent", "open")
    assert until(lambda: sees(lab, old_host, "attacker") == OPEN, 5)
    assert refused(hands, old_host.name, "hold", "--id", "ab", "--ttl", "60")[0] == 75


def test_with_neither_there_is_a_clear_refusal(lab: Lab, hands: Hands, old_host: LabHost) -> None:
    on(lab, old_host, "mv /usr/sbin/iptables-save /usr/sbin/iptables-save.away")
    try:
        with pytest.raises(RemoteFailed, match=r"neither nft nor iptables works here.*Install nftables"):
            hands.run(BLOCK, old_host.name, addresses=["10.77.0.66"])
    finally:
        on(lab, old_host, "mv /usr/sbin/iptables-save.away /usr/sbin/iptables-save")


def test_a_thousand_addresses_go_in_one_step(lab: Lab, hands: Hands, host: LabHost) -> None:
    many = [f"198.51.{100 + n // 250}.{n % 250 + 1}" for n in range(0, 998, 2)] + [
        f"2001:db8:{n:x}:1234:5678:9abc:def0:{n:x}" for n in range(500)
    ]
    started = time.monotonic()
    (change,), proof = hands.run(BLOCK, host.name, addresses=[*many, "10.77.0.66"])
    assert proof.passed
    assert time.monotonic() - started < 5
    assert change.summary.startswith("block 10.77.0.66, 198.51.100.1, 198.51.100.3 and 997 more in and out on web-1")
    assert sees(lab, host, "attacker") == ("silent", "open")
