"""An isolated host is cut off for the attacker, stays reachable for the responder, and comes back exactly as it was."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from irflow.actions.host_isolate import HostIsolate, IsolateParams
from irflow.actions.host_release import HostRelease
from irflow.core.errors import ConfigurationError, HostError, RemoteFailed
from irflow.lab import inventory, vantage
from irflow.lab.attack import stage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.integration.lab_actions import Hands
from tests.services.on_host import on, until

SCRIPT = "isolate.sh"
ISOLATE, RELEASE = HostIsolate(), HostRelease()

# A host with rules of its own: NAT as docker makes it, a filter that drops by default, a set whose elements run out.
OWN_RULES = b"""
table ip nat {
	chain DOCKER { }
	chain PREROUTING {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local counter jump DOCKER
	}
	chain POSTROUTING {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
	}
}
table inet filter {
	set banned { type ipv4_addr; flags interval,timeout; elements = { 203.0.113.7, 198.51.100.0/24 timeout 1h }; }
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related counter accept
		iif lo accept
		tcp dport { 9, 22, 8080 } counter accept
		icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
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
def host(lab: Lab) -> Iterator[LabHost]:
    """A host that is as it was born, before and after."""
    one = lab.hosts[0]
    yield one
    on(lab, one, "nft flush ruleset; rm -rf /var/lib/irflow")


def ruleset(lab: Lab, host: LabHost) -> str:
    """Everything, handles included, so that a table that was dumped and loaded again shows."""
    return on(lab, host, "nft -s -a list ruleset")


def call(hands: Hands, name: str, *args: str, fresh: bool = False) -> dict[str, str]:
    done = hands.shell.run(hands.hosts[name], SCRIPT, args, timeout_s=20, fresh=fresh)
    return dict(line.split("=", 1) for line in done.text.splitlines())


def refused(hands: Hands, name: str, *args: str) -> tuple[int, str]:
    """Exit status and message of a call that must not work."""
    done = hands.shell.run(hands.hosts[name], SCRIPT, args, timeout_s=20, check=False)
    assert done.status != 0, done.text
    return done.status, done.stderr.decode()


def management(lab: Lab) -> list[str]:
    return [part for one in lab.management_addresses for part in ("--management", one)]


def attacker_sees(lab: Lab, host: LabHost) -> vantage.View:
    return vantage.look(lab, host, "attacker", timeout_s=0.4)


@contextmanager
def heartbeat(lab: Lab, host: LabHost) -> Iterator[Callable[[], float]]:
    """The responder's own open session, ticking every 50 ms; gives the longest gap so far in seconds."""
    argv = [*vantage.ssh_argv(lab, host, "responder"), "while :; do echo; sleep .05; done"]
    session = lab.popen_from("responder", argv)
    ticks: list[float] = []
    assert session.stdout is not None
    thread = threading.Thread(target=lambda: ticks.extend(time.monotonic() for _ in session.stdout or ()))
    thread.start()
    assert until(lambda: len(ticks) > 2, 10)
    try:
        yield lambda: max(b - a for a, b in zip(ticks, [*ticks[1:], time.monotonic()], strict=True))
    finally:
        session.kill()
        thread.join()
        session.communicate()


# ---------------------------------------------------------------- the whole action


def test_the_attackers_session_and_beacon_die_and_the_responder_stays(lab: Lab, hands: Hands, host: LabHost) -> None:
    with stage(lab, host) as attack, heartbeat(lab, host) as longest_gap:
        assert attack.session_alive()
        assert attacker_sees(lab, host).greeting is not None
        changes, proof = hands.run(ISOLATE, host.name, lease=3600)
        cut_at = time.monotonic()
        assert proof.passed, proof
        assert len(changes) == 1
        assert not attack.session_alive(0.5)
        assert not attack.can_connect(1.0)
        assert attacker_sees(lab, host).dark
        assert not attack.beacon_seen_since(cut_at, 1.0)
        assert longest_gap() < 0.6
        assert vantage.look(lab, host, "responder").greeting is not None
        hands.run(RELEASE, host.name)
        assert attack.beacon_seen_since(time.monotonic(), 5)
        assert attack.can_connect()


def test_the_proof_names_both_sides_and_grants_the_lease_that_the_kernel_holds(hands: Hands, host: LabHost) -> None:
    _, proof = hands.run(ISOLATE, host.name, lease="2h")
    checks = {one.name: (one.passed, one.before, one.after) for one in proof.checks}
    assert checks["responder gets in over a new connection"] == (True, "absent", "confirmed")
    assert checks["forbidden probe from the responder is silent"] == (True, "refused", "silent")
    (lease,) = proof.leases
    assert lease["kind"] == "isolation"
    assert lease["seconds"] == 7200
    assert call(hands, host.name, "status")["left"] in ("7199", "7198", "7197")


def test_silence_alone_is_no_proof_where_the_host_was_silent_before(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "nft -f -", OWN_RULES.replace(b"{ 9, 22, 8080 }", b"22"))
    _, proof = hands.run(ISOLATE, host.name)
    counted = {one.name: one for one in proof.checks}["the kernel counted dropped packets"]
    assert counted.passed
    assert counted.before == "silent before too"
    assert proof.facts["dropped_packets"] > 0


def test_a_second_run_changes_nothing_and_proves_it_again(hands: Hands, host: LabHost) -> None:
    hands.run(ISOLATE, host.name)
    changes, proof = hands.run(ISOLATE, host.name)
    assert changes == ()
    assert proof.passed
    assert proof.leases[0]["seconds"] == 28800
    assert hands.run(ISOLATE, host.name, lease=600)[0] != ()


def test_release_leaves_the_rest_of_the_rules_byte_for_byte(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "nft -f -", OWN_RULES)
    before = ruleset(lab, host)
    hands.run(ISOLATE, host.name)
    assert attacker_sees(lab, host).dark
    _, proof = hands.run(RELEASE, host.name)
    assert proof.passed, proof
    assert proof.facts["restored"] == "identical"
    assert proof.ended_leases == ("isolation",)
    assert ruleset(lab, host) == before
    assert not attacker_sees(lab, host).dark
    assert hands.run(RELEASE, host.name)[0] == ()


def test_release_says_when_somebody_else_changed_the_rules(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(ISOLATE, host.name)
    on(lab, host, "nft add table ip somebody")
    _, proof = hands.run(RELEASE, host.name)
    assert proof.passed
    assert proof.facts["restored"] == "changed_meanwhile"
    assert on(lab, host, "nft list ruleset") == "table ip somebody {\n}\n"


def test_undo_is_safe_before_and_after_apply(lab: Lab, hands: Hands, host: LabHost) -> None:
    params = IsolateParams(host=host.name)
    context = hands.context(ISOLATE, host.name)
    (change,) = ISOLATE.plan(params, ISOLATE.observe(params, context))
    before = ruleset(lab, host)
    assert ISOLATE.undo(change, hands.context(ISOLATE, host.name)).passed
    hands.run(ISOLATE, host.name)
    proof = ISOLATE.undo(change, hands.context(ISOLATE, host.name))
    assert proof.passed
    assert proof.facts["restored"] == "identical"
    assert ruleset(lab, host) == before


# ---------------------------------------------------------------- the kernel's own way back


def test_unconfirmed_the_kernel_opens_the_host_again_and_a_late_confirmation_is_refused(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    call(hands, host.name, "apply", "--epoch", "1", "--step", "s", "--deadman", "2", *management(lab))
    assert attacker_sees(lab, host).dark
    assert until(lambda: attacker_sees(lab, host).greeting is not None, 4)
    status, said = refused(hands, host.name, "confirm", "--epoch", "1", "--step", "s", "--ttl", "60")
    assert status == 75
    assert "dead-man has fired" in said
    assert call(hands, host.name, "status")["state"] == "expired"
    assert attacker_sees(lab, host).greeting is not None


def test_confirmed_the_cut_outlives_the_dead_man_and_ends_with_its_lease(lab: Lab, hands: Hands, host: LabHost) -> None:
    call(hands, host.name, "apply", "--epoch", "1", "--step", "s", "--deadman", "2", *management(lab))
    call(hands, host.name, "confirm", "--epoch", "1", "--step", "s", "--ttl", "4", fresh=True)
    confirmed = time.monotonic()
    assert until(lambda: attacker_sees(lab, host).greeting is not None, 6)
    assert time.monotonic() - confirmed > 3.5


def test_a_confirmation_that_does_not_come_fails_the_proof_and_says_what_happens(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    params = IsolateParams(host=host.name, deadman=5)
    context = hands.context(ISOLATE, host.name)
    seen = ISOLATE.observe(params, context)
    applied = tuple(ISOLATE.apply(change, context) for change in ISOLATE.plan(params, seen))
    call(hands, host.name, "undo", "--epoch", str(context.epoch + 1), "--step", "taken-over")
    proof = ISOLATE.verify(params, seen, applied, context)
    assert not proof.passed
    assert proof.leases == ()
    assert "opens web-1 again within 5 s" in proof.facts["reverts"]


# ---------------------------------------------------------------- one writer


def test_a_writer_that_was_overtaken_can_do_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    call(hands, host.name, "apply", "--epoch", "20", "--step", "new", *management(lab))
    for late in (
        ("confirm", "--ttl", "9"),
        ("apply", *management(lab)),
        ("renew", "--ttl", "9", *management(lab)),
        ("undo",),
    ):
        status, said = refused(hands, host.name, late[0], "--epoch", "19", "--step", "late", *late[1:])
        assert status == 75
        assert "epoch 19 is over: 20 (new)" in said
    assert call(hands, host.name, "status")["state"] == "armed"
    call(hands, host.name, "undo", "--epoch", "20", "--step", "new")
    assert refused(hands, host.name, "apply", "--epoch", "19", "--step", "late", *management(lab))[0] == 75


def test_calls_at_the_same_time_take_turns(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "mkdir -p /var/lib/irflow; flock /var/lib/irflow/isolation.lock sleep 1 </dev/null >/dev/null 2>&1 & "
                  "while flock -n /var/lib/irflow/isolation.lock true; do :; done")  # fmt: skip
    started = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        args = ("apply", "--epoch", "5", "--step", "s", *management(lab))
        calls = [pool.submit(call, hands, host.name, *args) for _ in range(6)]
        assert all(one.result()["state"] == "armed" for one in calls)
    assert time.monotonic() - started > 0.8
    assert on(lab, host, "nft list tables") == "table inet irflow\n"
    assert call(hands, host.name, "status")["state"] == "armed"


def test_applying_again_never_opens_a_gap(lab: Lab, hands: Hands, host: LabHost) -> None:
    args = ("apply", "--epoch", "5", "--step", "s", *management(lab))
    call(hands, host.name, *args)
    over = threading.Event()
    seen: list[str] = []

    def attack() -> None:
        while not over.is_set():
            seen.append(vantage.tcp(lab.netns("attacker"), host.address, 22, timeout_s=0.02))

    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for one in attackers:
        one.start()
    try:
        for _ in range(12):
            call(hands, host.name, *args)
    finally:
        over.set()
        for one in attackers:
            one.join()
    assert len(seen) > 50
    assert set(seen) == {"silent"}


def test_a_lock_left_by_a_dead_call_is_taken_over_where_there_is_no_flock(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[2]
    on(lab, host, "mv /usr/bin/flock /usr/bin/flock.away; mkdir -p /var/lib/irflow/isolation.locked; "
                  "echo 999999 >/var/lib/irflow/isolation.locked/pid")  # fmt: skip
    try:
        call(hands, host.name, "apply", "--epoch", "1", "--step", "s", *management(lab))
        assert attacker_sees(lab, host).dark
        call(hands, host.name, "undo", "--epoch", "1", "--step", "s")
        assert "isolation.locked" not in on(lab, host, "ls /var/lib/irflow")
    finally:
        on(lab, host, "mv /usr/bin/flock.away /usr/bin/flock; nft flush ruleset; rm -rf /var/lib/irflow")


def test_a_disk_that_takes_nothing_does_not_save_a_host_and_the_fence_holds(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[2]
    on(lab, host, "rm -rf /var/lib/irflow; touch /var/lib/irflow")
    try:
        _, proof = hands.run(ISOLATE, host.name)
        assert proof.passed, proof
        assert attacker_sees(lab, host).dark
        assert refused(hands, host.name, "undo", "--epoch", "1", "--step", "late")[0] == 75
        on(lab, host, "rm /var/lib/irflow")
        assert refused(hands, host.name, "undo", "--epoch", "1", "--step", "late")[0] == 75
        _, proof = hands.run(RELEASE, host.name)
        assert proof.facts["restored"] == "identical"
    finally:
        on(lab, host, "rm -rf /run/irflow /var/lib/irflow; nft flush ruleset")


# ---------------------------------------------------------------- drift


def test_a_flushed_ruleset_is_noticed_and_cut_again(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(ISOLATE, host.name)
    params, context = IsolateParams(host=host.name), hands.context(ISOLATE, host.name)
    assert ISOLATE.plan(params, ISOLATE.observe(params, context)) == ()
    on(lab, host, "nft flush ruleset")
    assert attacker_sees(lab, host).greeting is not None
    assert ISOLATE.plan(params, ISOLATE.observe(params, context)) != ()
    proof = ISOLATE.renew(params, context)
    assert proof.passed, proof
    assert proof.facts["drift"] == "absent"
    assert len(proof.leases) == 1
    assert attacker_sees(lab, host).dark
    assert ISOLATE.plan(params, ISOLATE.observe(params, context)) == ()


@pytest.mark.parametrize(
    ("tampering", "drift"),
    [
        ("nft insert rule inet irflow input accept", "rules_changed"),
        ("nft add table inet irflow '{ flags dormant; }'", "rules_changed"),
        ("nft add element inet irflow management4 '{ 10.77.0.66 }'", "rules_changed"),
        ("nft flush set inet irflow armed", "expired"),
        ("nft delete element inet irflow armed '{ ipv6 }'", "expired"),
        ("nft flush chain inet irflow output", "rules_changed"),
    ],
)
def test_tampering_with_the_rules_is_noticed_and_undone(
    lab: Lab, hands: Hands, host: LabHost, tampering: str, drift: str
) -> None:
    hands.run(ISOLATE, host.name)
    on(lab, host, tampering)
    params, context = IsolateParams(host=host.name), hands.context(ISOLATE, host.name)
    assert ISOLATE.plan(params, ISOLATE.observe(params, context)) != ()
    proof = ISOLATE.renew(params, context)
    assert proof.passed
    assert proof.facts["drift"] == drift
    assert attacker_sees(lab, host).dark


def test_renewing_what_is_in_force_only_prolongs_it(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(ISOLATE, host.name, lease=600)
    handles = ruleset(lab, host)
    params, context = IsolateParams(host=host.name, lease=600), hands.context(ISOLATE, host.name)
    assert until(lambda: int(call(hands, host.name, "status")["left"]) < 599, 3)
    proof = ISOLATE.renew(params, context)
    assert proof.passed
    assert "drift" not in proof.facts
    assert call(hands, host.name, "status")["left"] == "599"
    assert ruleset(lab, host) == handles


def test_after_a_reload_of_the_firewall_the_host_is_cut_for_what_is_left(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(ISOLATE, host.name, lease=600)
    on(lab, host, "nft flush ruleset; sh /var/lib/irflow/rearm")
    assert attacker_sees(lab, host).dark
    seen = call(hands, host.name, "status")
    assert seen["state"] == "confirmed"
    assert 590 < int(seen["left"]) <= 600
    params, context = IsolateParams(host=host.name, lease=600), hands.context(ISOLATE, host.name)
    assert ISOLATE.plan(params, ISOLATE.observe(params, context)) == ()
    hands.run(RELEASE, host.name)
    assert on(lab, host, "ls /var/lib/irflow").split() == ["isolation.epoch", "isolation.lock"]


def test_where_systemd_runs_the_cut_outlives_a_boot_and_release_takes_that_back(lab: Lab, hands: Hands) -> None:
    """The lab has no systemd: a stand-in notes what it was asked; the unit itself is checked by systemd's own tool."""
    host = lab.hosts[1]
    unit = "/etc/systemd/system/irflow-isolation.service"
    stand_in = '#!/bin/sh\necho "$*" >>/run/systemctl.log\n'
    on(lab, host, "mkdir -p /run/systemd/system; mv /usr/bin/systemctl /usr/bin/systemctl.away; "
                  "cat >/usr/bin/systemctl; chmod 755 /usr/bin/systemctl", stand_in.encode())  # fmt: skip
    try:
        hands.run(ISOLATE, host.name, lease=600)
        assert until(lambda: "start irflow-isolation" in on(lab, host, "cat /run/systemctl.log || :"), 5)
        assert "enable -q irflow-isolation" in on(lab, host, "cat /run/systemctl.log")
        assert (
            on(lab, host, f"cp {unit} /run; systemd-analyze verify /run/irflow-isolation.service 2>&1; rm /run/irflow*")
            == ""
        )
        started = on(lab, host, f"sed -n s/^ExecStart=//p {unit}").strip()
        on(lab, host, f"nft flush ruleset; {started}")
        assert attacker_sees(lab, host).dark
        assert int(call(hands, host.name, "status")["left"]) > 590
        on(lab, host, "echo '1 600 s' >/var/lib/irflow/isolation.lease; nft flush ruleset; " + started)
        assert call(hands, host.name, "status")["state"] == "absent"
        assert hands.run(RELEASE, host.name)[1].passed
        assert until(lambda: "stop irflow-isolation" in on(lab, host, "cat /run/systemctl.log"), 5)
        assert (
            on(lab, host, "find /etc/systemd/system /var/lib/irflow -type f ! -name isolation.lock ! -name '*.epoch'")
            == ""
        )
    finally:
        on(lab, host, "rm -rf /run/systemd /run/systemctl.log /var/lib/irflow; nft flush ruleset; "
                      "mv /usr/bin/systemctl.away /usr/bin/systemctl")  # fmt: skip


# ---------------------------------------------------------------- what else may go in and out


def test_only_the_named_flows_stay_open(lab: Lab, hands: Hands, host: LabHost) -> None:
    other, third = lab.hosts[1], lab.hosts[2]
    hands.run(ISOLATE, host.name, allow=[f"tcp:{other.address}:22", f"tcp:[{other.address6}]:22"])
    reach = "timeout 1 bash -c 'exec 3<>/dev/tcp/{}/22; read -r line <&3; echo $line' 2>/dev/null || echo nothing"
    assert on(lab, host, reach.format(other.address)).startswith("SSH-")
    assert on(lab, host, reach.format(other.address6)).startswith("SSH-")
    assert on(lab, host, reach.format(third.address)) == "nothing\n"
    assert on(lab, host, reach.format(third.address6)) == "nothing\n"
    assert on(lab, host, reach.format(lab.management_addresses[0])) == "nothing\n"
    assert on(lab, host, reach.format("127.0.0.1")).startswith("SSH-")
    back = "timeout 1 bash -c 'exec 3<>/dev/tcp/{}/22' 2>/dev/null && echo open || echo closed"
    assert on(lab, other, back.format(host.address)) == "closed\n"


def test_not_one_datagram_leaves_the_host(lab: Lab, hands: Hands, host: LabHost) -> None:
    """TCP would be silent already because no answer comes in; UDP needs none."""
    listen = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 5353)); print(flush=True)\n"
        "while True: print(s.recv(99).decode(), flush=True)\n"
    )
    heard: list[str] = []
    listener = lab.popen_from("attacker", [sys.executable, "-c", listen])
    assert listener.stdout is not None
    thread = threading.Thread(target=lambda: heard.extend(line.decode().strip() for line in listener.stdout or ()))
    thread.start()
    try:
        assert until(lambda: len(heard) == 1, 5)

        def send(word: str) -> None:
            """Once for each family."""
            for address in lab.attacker_addresses:
                on(lab, host, f"bash -c 'echo {word}-{len(address)} >/dev/udp/{address}/5353' 2>/dev/null || :")

        both = {len(one) for one in lab.attacker_addresses}
        send("before")
        assert until(lambda: {f"before-{one}" for one in both} <= set(heard), 2)
        hands.run(ISOLATE, host.name)
        send("cut")
        hands.run(RELEASE, host.name)
        send("after")
        assert until(lambda: {f"after-{one}" for one in both} <= set(heard), 2)
        assert not [one for one in heard if one.startswith("cut")]
    finally:
        listener.kill()
        thread.join()
        listener.communicate()


def test_the_host_cannot_call_the_responder_from_the_ssh_port(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(ISOLATE, host.name)
    before = int(call(hands, host.name, "status")["dropped_packets"])
    dial = (
        "import socket\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.settimeout(0.3)\n"
        f"s.bind(({host.address!r}, 22))\n"
        f"s.connect(({lab.management_addresses[0]!r}, 9))\n"
    )
    stop = "kill $(cat /run/sshd.pid); while ss -Hltn sport = :22 | grep -q .; do :; done"
    stop += '; python3 -c "$1" 2>&1 | tail -1; /usr/sbin/sshd'
    done = lab.exec(host, ["sh", "-c", stop, "sh", dial])
    assert b"timed out" in done.stdout, done
    assert int(call(hands, host.name, "status")["dropped_packets"]) > before


def test_a_wrong_management_network_does_not_lock_the_responder_out(lab: Lab, hands: Hands, host: LabHost) -> None:
    wrong = hands.hosts[host.name].model_copy(update={"management": ("192.0.2.1/32",)})
    other = Hands(lab, hands.home, {host.name: wrong})
    try:
        _, proof = other.run(ISOLATE, host.name)
        assert proof.passed, proof
        assert attacker_sees(lab, host).dark
        assert other.run(RELEASE, host.name)[1].passed
    finally:
        other.close()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "no management network given"),
        (("--management", "0.0.0.0/0"), "is everything"),
        (("--management", "10.0.0.999"), "not an address"),
        (("--management", "10.0.0.1/33"), "not a network"),
        (("--management", "web-1"), "not a network"),
        (("--management", "10.0.0.1", "--allow", "udp:10.0.0.53"), "whole number"),
        (("--management", "10.0.0.1", "--allow", "icmp:10.0.0.53:1"), "tcp:ADDRESS:PORT"),
        (("--management", "10.0.0.1", "--deadman", "-1"), "whole number"),
        (("--verbose", "yes"), "unknown argument"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_cut(
    hands: Hands, host: LabHost, args: tuple[str, ...], said: str
) -> None:
    status, text = refused(hands, host.name, "apply", "--epoch", "1", "--step", "s", *args)
    assert status == 64
    assert said in text
    assert call(hands, host.name, "status")["state"] == "absent"


def test_without_a_management_network_in_the_inventory_nothing_is_even_asked(lab: Lab, hands: Hands) -> None:
    name = lab.hosts[0].name
    bare = Hands(lab, hands.home, {name: hands.hosts[name].model_copy(update={"management": ()})})
    with pytest.raises(ConfigurationError, match="management"):
        bare.run(ISOLATE, name)
    bare.close()


# ---------------------------------------------------------------- other hosts


def test_an_account_with_sudo_does_as_well_as_root(lab: Lab, hands: Hands, host: LabHost) -> None:
    entries = {one.name: one for one in inventory.entries(lab, user="ir")}
    sudoer = Hands(lab, hands.home, entries)
    try:
        _, proof = sudoer.run(ISOLATE, host.name)
        assert proof.passed, proof
        assert attacker_sees(lab, host).dark
        assert sudoer.run(RELEASE, host.name)[1].passed
    finally:
        sudoer.close()


def test_without_root_the_error_says_so(lab: Lab, hands: Hands) -> None:
    name = lab.hosts[0].name
    plain = Hands(lab, hands.home, {name: hands.hosts[name].model_copy(update={"user": "alice"})})
    try:
        with pytest.raises(RemoteFailed, match="root is needed") as caught:
            plain.run(ISOLATE, name)
        assert caught.value.status == 77
        assert "sudo" in caught.value.hint
    finally:
        plain.close()


@contextmanager
def without(lab: Lab, host: LabHost, *programs: str) -> Iterator[None]:
    """A host that lacks programs."""
    away = "; ".join(f"mv /usr/sbin/{one} /usr/sbin/{one}.away" for one in programs)
    back = "; ".join(f"mv /usr/sbin/{one}.away /usr/sbin/{one}" for one in programs)
    on(lab, host, away)
    try:
        yield
    finally:
        on(lab, host, back)


def test_without_nftables_iptables_cuts_as_well_and_is_named(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[1]
    with without(lab, host, "nft"), stage(lab, host) as attack:
        rules = "iptables-save | sed -n /^-A/p; ip6tables-save | sed -n /^-A/p"
        on(lab, host, "iptables -A INPUT -s 203.0.113.7 -j DROP")
        before = on(lab, host, rules)
        _, proof = hands.run(ISOLATE, host.name, lease=600)
        assert proof.passed, proof
        assert proof.facts["backend"] == "iptables"
        cut_at = time.monotonic()
        assert attacker_sees(lab, host).dark
        assert not attack.session_alive(0.5)
        assert not attack.beacon_seen_since(cut_at, 1.0)
        params, context = IsolateParams(host=host.name, lease=600), hands.context(ISOLATE, host.name)
        assert ISOLATE.plan(params, ISOLATE.observe(params, context)) == ()
        on(lab, host, "iptables -F IRFLOW_IN")
        proof = ISOLATE.renew(params, context)
        assert proof.passed
        assert proof.facts["drift"] == "rules_changed"
        _, proof = hands.run(RELEASE, host.name)
        assert proof.passed, proof
        assert proof.facts["restored"] == "identical"
        assert on(lab, host, rules) == before
        call(hands, host.name, "apply", "--epoch", "99999999999999", "--step", "s", "--deadman", "2", *management(lab))
        assert attacker_sees(lab, host).dark
        assert until(lambda: attacker_sees(lab, host).greeting is not None, 5)


def test_without_any_packet_filter_the_error_says_so(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[2]
    with without(lab, host, "nft", "iptables", "iptables-save", "iptables-restore"):
        with pytest.raises(HostError, match="neither nft nor iptables") as caught:
            hands.run(ISOLATE, host.name)
    assert isinstance(caught.value, RemoteFailed)
    assert caught.value.status == 69
