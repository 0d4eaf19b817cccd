"""A stopped service answers nobody and is not started again; undo brings back exactly what was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.actions.service_stop import ServiceStop, StopParams
from irflow.core.action import Change
from irflow.core.errors import HostError, Refused, RemoteFailed
from irflow.core.status import StepStatus
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.integration.lab_actions import Hands
from tests.services import demo_service
from tests.services.demo_service import PORT, answers, wait_for
from tests.services.on_host import on

STOP = ServiceStop()
SCRIPT = "service.sh"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture
def host(lab: Lab, hands: Hands) -> Iterator[LabHost]:
    """A host on which the service `demo` runs and is enabled."""
    one = lab.hosts[0]
    demo_service.start(lab, one)
    yield one
    on(
        lab,
        one,
        "if [ -r /run/demo.pid ]; then kill -KILL $(cat /run/demo.pid) 2>/dev/null || :; fi; "
        "rm -rf /run/demo.* /var/lib/irflow /usr/local/sbin/demo /etc/init.d/demo /etc/rc2.d/S03demo",
    )
    assert wait_for(lab, one, up=False)
    hands.status.steps.clear()


def places(lab: Lab, host: LabHost) -> str:
    """All that decides what starts: names, modes, targets, contents."""
    return on(lab, host, "cd /etc; ls -ln init.d/demo rc?.d systemd/system 2>/dev/null | grep -v ^total || :; "
                         "find systemd/system -name '*demo*' -exec ls -ld {} +; sha256sum init.d/demo")  # fmt: skip


def intended(hands: Hands, host: LabHost, changes: tuple[Change, ...]) -> None:
    """What the journal knows of a step whose process died after its intent."""
    key = hands.context(STOP, host.name).step.key
    hands.status.steps[key] = StepStatus(key, host.name, intended=tuple(one.to_data() for one in changes))


def undo(hands: Hands, host: LabHost, *changes: Change) -> None:
    """As another process would, days later: from the journal alone, the last change first."""
    for change in reversed(changes):
        proof = STOP.undo(Change.from_data(change.to_data()), hands.context(STOP, host.name))
        assert proof.passed, proof


# ---------------------------------------------------------------- init scripts


def test_a_stopped_service_answers_nobody_and_undo_brings_it_back(lab: Lab, hands: Hands, host: LabHost) -> None:
    before = places(lab, host)
    changes, proof = hands.run(STOP, host.name, services=["demo"])
    assert proof.passed, proof
    (change,) = changes
    assert change.summary == "stop and keep from starting demo on web-1"
    checks = {one.name: (one.before, one.after) for one in proof.checks}
    assert checks["demo is stopped"] == ("running, enabled", "stopped, kept off")
    assert checks[f"port {PORT} of demo does not answer the responder"] == ("open", "refused")
    assert not answers(lab, host)
    assert "unrecognized service" in on(lab, host, "service demo start 2>&1 || :")
    proof = STOP.undo(change, hands.context(STOP, host.name))
    assert proof.passed, proof
    assert {one.name for one in proof.checks} == {
        "demo runs again", f"port {PORT} of demo answers the responder again", "demo starts as before (enabled)",
    }  # fmt: skip
    assert answers(lab, host)
    assert places(lab, host) == before


def test_a_service_that_is_started_again_has_nothing_of_the_responders_session(
    lab: Lab, hands: Hands, host: LabHost
) -> None:
    (change,), _ = hands.run(STOP, host.name, services=["demo"])
    undo(hands, host, change)
    said = on(lab, host, f"exec 3<>/dev/tcp/127.0.0.1/{PORT}; cat <&3".join(["bash -c '", "'"]))
    assert said.startswith("umask 022 ")
    assert "IRFLOW" not in said
    assert "SSH" not in said
    # Nor does it hold the lock: another call gets its turn at once.
    started = time.monotonic()
    hands.run(STOP, host.name, services=["demo"])
    assert time.monotonic() - started < 5


def test_a_second_run_changes_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    hands.run(STOP, host.name, services=["demo"])
    changes, proof = hands.run(STOP, host.name, services=["demo"])
    assert changes == ()
    assert proof.passed


def test_without_disable_it_is_only_stopped(lab: Lab, hands: Hands, host: LabHost) -> None:
    before = places(lab, host)
    (change,), proof = hands.run(STOP, host.name, services=["demo"], disable=False)
    assert proof.passed, proof
    assert change.summary == "stop demo on web-1"
    assert not answers(lab, host)
    assert places(lab, host) == before
    undo(hands, host, change)
    assert answers(lab, host)


def test_what_was_stopped_stays_stopped_after_undo(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "service demo stop")
    assert wait_for(lab, host, up=False)
    before = places(lab, host)
    (change,), proof = hands.run(STOP, host.name, services=["demo"])
    assert proof.passed
    assert change.summary == "keep from starting demo on web-1"
    undo(hands, host, change)
    assert not answers(lab, host)
    assert places(lab, host) == before


def test_a_service_that_does_not_want_to_end_is_killed(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "service demo stop")
    assert wait_for(lab, host, up=False)
    on(lab, host, "touch /run/demo.stubborn; setsid service demo start </dev/null >/dev/null 2>&1")
    assert wait_for(lab, host, up=True)
    (change,), proof = hands.run(STOP, host.name, services=["demo"])
    assert proof.passed, proof
    assert not answers(lab, host)
    undo(hands, host, change)
    assert answers(lab, host)


@pytest.mark.parametrize("died", ["before apply", "half stopped", "after apply"])
def test_killed_anywhere_a_second_run_converges_and_undo_knows_what_was(
    lab: Lab, hands: Hands, host: LabHost, died: str
) -> None:
    before = places(lab, host)
    params, context = StopParams(host=host.name, services=("demo",)), hands.context(STOP, host.name)
    first = STOP.plan(params, STOP.observe(params, context))
    intended(hands, host, first)
    if died == "half stopped":
        on(lab, host, "service demo stop")
        assert wait_for(lab, host, up=False)
    if died == "after apply":
        STOP.apply(first[0], context)
    second, proof = hands.run(STOP, host.name, services=["demo"])
    assert proof.passed, proof
    assert bool(second) == (died != "after apply")
    assert not answers(lab, host)
    undo(hands, host, *first, *second)
    assert answers(lab, host)
    assert places(lab, host) == before


def test_undo_is_safe_when_apply_never_happened(lab: Lab, hands: Hands, host: LabHost) -> None:
    before, pid = places(lab, host), on(lab, host, "cat /run/demo.pid")
    params, context = StopParams(host=host.name, services=("demo",)), hands.context(STOP, host.name)
    undo(hands, host, *STOP.plan(params, STOP.observe(params, context)))
    assert places(lab, host) == before
    assert on(lab, host, "cat /run/demo.pid") == pid


# ---------------------------------------------------------------- refusals


def test_what_carries_the_session_is_refused_whatever_it_is_called(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "printf '#!/bin/sh\\nexit 0\\n' >/etc/init.d/access; chmod 755 /etc/init.d/access; "
                  "cp /run/sshd.pid /run/access.pid")  # fmt: skip
    try:
        with pytest.raises(Refused, match=r"access \(access\) is never stopped: the responder's own way in needs it"):
            hands.run(STOP, host.name, services=["demo", "access"])
        context = hands.context(STOP, host.name)
        args = ["--epoch", str(context.epoch), "--step", "s", "--id", "ab", "--kind", "init", "--stop", "access"]
        done = hands.shell.run(hands.hosts[host.name], SCRIPT, ["stop", *args], timeout_s=20, check=False)
        assert done.status == 64
        assert b"it carries this session" in done.stderr
    finally:
        on(lab, host, "rm /etc/init.d/access /run/access.pid")
    assert answers(lab, host)


def test_a_service_that_is_not_there_is_named_and_nothing_is_stopped(lab: Lab, hands: Hands, host: LabHost) -> None:
    with pytest.raises(HostError, match=r"web-1: there is no service nothere\."):
        hands.run(STOP, host.name, services=["demo", "nothere"])
    assert answers(lab, host)


def test_a_writer_that_was_overtaken_can_do_nothing(lab: Lab, hands: Hands, host: LabHost) -> None:
    params = StopParams(host=host.name, services=("demo",))
    late = hands.context(STOP, host.name)
    (change,) = STOP.plan(params, STOP.observe(params, late))
    hands.run(STOP, host.name, services=["demo"])
    with pytest.raises(RemoteFailed, match="is over"):
        STOP.undo(change, late)
    assert not answers(lab, host)


# ---------------------------------------------------------------- systemd

# The lab has no systemd: this stands where systemctl is, notes what it is asked for, and keeps the state of units that
# systemd would keep. demo.service runs the same daemon, and demo.socket starts it.
SYSTEMCTL = rb"""#!/bin/sh
echo "$*" >>/run/systemctl.log
state=/run/units
case $1 in
show)
	for unit; do :; done
	case $unit in sshd.service) unit=ssh.service ;; esac
	echo "Id=$unit"
	if [ ! -e $state/$unit ]; then echo LoadState=not-found; echo ActiveState=inactive; exit; fi
	active=$(cat $state/$unit) load=loaded file=/lib/systemd/system/$unit
	[ ! -L /etc/systemd/system/$unit ] || load=masked
	[ ! -f /etc/systemd/system/$unit ] || file=/etc/systemd/system/$unit
	boot=$([ -e $state/$unit.enabled ] && echo enabled || echo static)
	[ $load = loaded ] || boot=masked
	pid=0; [ $unit != demo.service ] || [ $active != active ] || pid=$(cat /run/demo.pid)
	[ $unit != ssh.service ] || pid=$(cat /run/sshd.pid)
	printf '%s\n' LoadState=$load ActiveState=$active UnitFileState=$boot MainPID=$pid FragmentPath=$file
	[ $unit != demo.service ] || printf 'TriggeredBy=demo.socket demo.timer\nRequiredBy=web.service multi-user.target\n'
	;;
mask) ln -s /dev/null /etc/systemd/system/$3; echo "Created symlink" ;;
unmask) [ ! -L /etc/systemd/system/$3 ] || rm /etc/systemd/system/$3 ;;
start)
	shift 2
	for unit; do
		[ ! -L /etc/systemd/system/$unit ] || { echo "Unit $unit is masked." >&2; exit 1; }
		[ ! -e /etc/systemd/system/$unit.d/irflow-stopped.conf ] || exit 0
		echo active >$state/$unit
		[ $unit != demo.service ] || { /usr/local/sbin/demo >/dev/null 2>&1 </dev/null & echo $! >/run/demo.pid; }
	done
	;;
stop)
	echo inactive >$state/$3
	[ $3 != demo.service ] || { kill $(cat /run/demo.pid); echo inactive >$state/web.service; }
	;;
daemon-reload) ;;
*) exit 1 ;;
esac
"""


@pytest.fixture
def systemd_host(lab: Lab, host: LabHost) -> Iterator[LabHost]:
    """The host as one with systemd."""
    on(lab, host, "mkdir -p /run/systemd/system /run/units /etc/systemd/system; rm /etc/init.d/demo; "
                  "cd /run/units; echo active | tee demo.service demo.socket web.service ssh.service >/dev/null; "
                  "echo inactive >demo.timer; touch demo.service.enabled demo.socket.enabled web.service.enabled; "
                  "mv /usr/bin/systemctl /usr/bin/systemctl.away; cat >/usr/bin/systemctl; "
                  "chmod 755 /usr/bin/systemctl; touch /etc/init.d/demo", SYSTEMCTL)  # fmt: skip
    yield host
    on(lab, host, "rm -rf /run/systemd /run/units /run/systemctl.log /etc/systemd/system/demo.*; "
                  "mv /usr/bin/systemctl.away /usr/bin/systemctl")  # fmt: skip


def asked(lab: Lab, host: LabHost) -> list[str]:
    """What systemctl was asked to change since the last time."""
    said = on(lab, host, "cat /run/systemctl.log; : >/run/systemctl.log").splitlines()
    return [one for one in said if not one.startswith("show ")]


def test_with_systemd_the_service_and_what_would_start_it_are_masked_and_stopped(
    lab: Lab, hands: Hands, systemd_host: LabHost
) -> None:
    before = places(lab, systemd_host)
    (change,), proof = hands.run(STOP, systemd_host.name, services=["demo"])
    assert proof.passed, proof
    assert change.summary == "stop and keep from starting demo on web-1 (with it web.service)"
    assert asked(lab, systemd_host) == [
        "mask -- demo.service", "mask -- demo.socket", "mask -- demo.timer", "stop -- demo.socket",
        "stop -- demo.service",
    ]  # fmt: skip
    assert not answers(lab, systemd_host)
    assert hands.run(STOP, systemd_host.name, services=["demo.service"])[0] == ()
    assert asked(lab, systemd_host) == []
    proof = STOP.undo(change, hands.context(STOP, systemd_host.name))
    assert proof.passed, proof
    assert asked(lab, systemd_host) == [
        "unmask -- demo.service", "unmask -- demo.socket", "unmask -- demo.timer", "start -- demo.socket",
        "start -- demo.service", "start -- web.service",
    ]  # fmt: skip
    assert answers(lab, systemd_host)
    assert places(lab, systemd_host) == before
    assert on(lab, systemd_host, "cd /run/units; grep . *.service *.socket *.timer").split() == [
        "demo.service:active", "ssh.service:active", "web.service:active", "demo.socket:active", "demo.timer:inactive",
    ]  # fmt: skip


def test_a_unit_that_a_mask_would_have_to_replace_gets_a_condition_instead(
    lab: Lab, hands: Hands, systemd_host: LabHost
) -> None:
    on(lab, systemd_host, "echo '[Service]' >/etc/systemd/system/demo.service")
    before = places(lab, systemd_host)
    (change,), proof = hands.run(STOP, systemd_host.name, services=["demo"])
    assert proof.passed, proof
    assert "mask -- demo.service" not in asked(lab, systemd_host)
    drop_in = "/etc/systemd/system/demo.service.d/irflow-stopped.conf"
    assert "ConditionPathExists=!/\n" in on(lab, systemd_host, f"cat {drop_in}")
    assert on(lab, systemd_host, f"stat -c %a {drop_in}").strip() == "644"
    assert hands.run(STOP, systemd_host.name, services=["demo"])[0] == ()
    undo(hands, systemd_host, change)
    assert places(lab, systemd_host) == before
    assert answers(lab, systemd_host)


def test_a_crash_between_mask_and_stop_is_mended_and_undone(lab: Lab, hands: Hands, systemd_host: LabHost) -> None:
    before = places(lab, systemd_host)
    params, context = StopParams(host=systemd_host.name, services=("demo",)), hands.context(STOP, systemd_host.name)
    first = STOP.plan(params, STOP.observe(params, context))
    intended(hands, systemd_host, first)
    on(lab, systemd_host, "systemctl mask -- demo.service; systemctl mask -- demo.socket")
    second, proof = hands.run(STOP, systemd_host.name, services=["demo"])
    assert proof.passed, proof
    assert second != ()
    assert not answers(lab, systemd_host)
    undo(hands, systemd_host, *first, *second)
    assert answers(lab, systemd_host)
    assert places(lab, systemd_host) == before


def test_what_was_masked_and_stopped_before_stays_so(lab: Lab, hands: Hands, systemd_host: LabHost) -> None:
    on(lab, systemd_host, "for one in demo.service demo.socket demo.timer; do systemctl mask -- $one; done; "
                          "systemctl stop -- demo.socket; systemctl stop -- demo.service")  # fmt: skip
    assert hands.run(STOP, systemd_host.name, services=["demo"])[0] == ()


@pytest.mark.parametrize("name", ["way-in", "demo"])
def test_an_alias_or_a_dependant_of_ssh_is_refused(lab: Lab, hands: Hands, systemd_host: LabHost, name: str) -> None:
    change = {"way-in": "s/sshd.service) unit/way-in.service) unit/", "demo": "s/RequiredBy=web/RequiredBy=ssh/"}[name]
    on(lab, systemd_host, f"sed -i '{change}' /usr/bin/systemctl")
    with pytest.raises(Refused, match=f"{name} .* is never stopped: the responder's own way in needs it"):
        hands.run(STOP, systemd_host.name, services=[name])
    assert asked(lab, systemd_host) == []


def test_the_condition_is_one_that_systemd_understands(lab: Lab, hands: Hands, systemd_host: LabHost) -> None:
    """Checked by systemd's own tool on this machine: a stand-in proves nothing about the syntax."""
    on(lab, systemd_host, "printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/demo.service")
    hands.run(STOP, systemd_host.name, services=["demo"])
    assert Path("/usr/bin/systemd-analyze").exists()
    assert on(lab, systemd_host, "systemd-analyze verify /etc/systemd/system/demo.service 2>&1").strip() == ""
