"""What is stopped and kept from starting, what never is, and what undo is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from irflow.actions.service_stop import ServiceStop, StopParams
from irflow.core.action import Change
from irflow.core.errors import HostError, Refused
from irflow.core.status import StepStatus
from tests.fakes.remote import FakeProber, FakeShell, context

STOP = ServiceStop()
PARAMS = StopParams(host="web-1", services=("nginx",))


def block(name: str = "nginx", **lines: Any) -> str:
    """A service that runs and is enabled, unless it is said otherwise."""
    full = {
        "kind": "systemd", "unit": f"{name}.service", "running": "yes", "boot": "enabled", "off": "no", "carries": "no",
        "pid": 42, "ports": "", "triggers": "", "mask": f"{name}.service", "falls": "", **lines,
    }  # fmt: skip
    return f"service={name}\n" + "".join(f"{key}={value}\n" for key, value in full.items())


STOPPED = {"running": "no", "off": "yes", "boot": "masked", "mask": ""}


def observe(*blocks: str, params: StopParams = PARAMS, answers: tuple[str, ...] = (), earlier: Any = ()) -> Any:
    shell = FakeShell({"service.sh status": "manager=systemd\n" + "".join(blocks)})
    here = context(shell=shell, prober=FakeProber(list(answers)))
    intended = tuple(one.to_data() for one in earlier)
    here.status.steps[here.step.key] = StepStatus(here.step.key, "web-1", intended=intended)
    return STOP.observe(params, here)


# ---------------------------------------------------------------- what is never stopped


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ssh", "way in needs it"),
        ("sshd", "way in needs it"),
        ("ssh.service", "way in needs it"),
        ("ssh.socket", "way in needs it"),
        ("sshd@10.0.0.1.service", "way in needs it"),
        ("networking", "way in needs it"),
        ("nftables.service", "would be open again"),
        ("nginx;reboot", "not the name of a service"),
        ("-H", "not the name of a service"),
        ("../evil", "not the name of a service"),
        ("a..b", "not the name of a service"),
        ("nginx apache", "not the name of a service"),
        ("nginx,ssh", "not the name of a service"),
        (r"dev-sda\x2d1", "not the name of a service"),
        ("", "not the name of a service"),
    ],
)
def test_a_name_that_must_not_be_sent_or_stopped_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StopParams(host="web-1", services=("nginx", name))


def test_names_are_kept_once_and_there_is_at_least_one() -> None:
    assert StopParams(host="web-1", services=("nginx", "cron", "nginx")).services == ("nginx", "cron")
    with pytest.raises(ValidationError):
        StopParams(host="web-1", services=())


@pytest.mark.parametrize("lines", [{"unit": "ssh.service"}, {"carries": "yes"}, {"falls": "web.service,ssh.service"}])
def test_what_turns_out_to_be_the_way_in_is_refused(lines: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"web-1: nginx .* is never stopped: the responder's own way in needs it"):
        observe(block(**lines))


def test_a_firewall_under_another_name_is_refused_too() -> None:
    with pytest.raises(Refused, match="would be open again"):
        observe(block(unit="firewalld.service"))


def test_a_service_that_is_not_there_is_named() -> None:
    params = StopParams(host="web-1", services=("nginx", "vsftpd"))
    with pytest.raises(HostError, match=r"web-1: there is no service vsftpd\."):
        observe(block(), "service=vsftpd\nkind=none\n", params=params)


# ---------------------------------------------------------------- what changes


@pytest.mark.parametrize(
    ("lines", "disable", "summary", "stop", "mask"),
    [
        ({}, True, "stop and keep from starting nginx on web-1", ["nginx.service"], ["nginx.service"]),
        ({}, False, "stop nginx on web-1", ["nginx.service"], []),
        ({"running": "no"}, True, "keep from starting nginx on web-1", [], ["nginx.service"]),
        ({"running": "no"}, False, None, [], []),
        (STOPPED, True, None, [], []),
        ({**STOPPED, "running": "yes"}, True, "stop nginx on web-1", ["nginx.service"], []),
        (
            {"triggers": "nginx.socket", "mask": "nginx.service,nginx.socket"}, True,
            "stop and keep from starting nginx on web-1", ["nginx.socket", "nginx.service"],
            ["nginx.service", "nginx.socket"],
        ),
        ({"triggers": "nginx.socket"}, False, "stop nginx on web-1", ["nginx.service"], []),
        (
            {"falls": "a.service,b.service"}, True,
            "stop and keep from starting nginx on web-1 (with it a.service, b.service)", ["nginx.service"],
            ["nginx.service"],
        ),
    ],
)  # fmt: skip
def test_only_what_runs_is_stopped_and_only_what_can_start_is_kept_off(
    lines: dict[str, Any], disable: bool, summary: str | None, stop: list[str], mask: list[str]
) -> None:
    params = StopParams(host="web-1", services=("nginx",), disable=disable)
    changes = STOP.plan(params, observe(block(**lines), params=params))
    assert [one.summary for one in changes] == ([summary] if summary else [])
    for change in changes:
        assert (change.data["stop"], change.data["mask"]) == (stop, mask)
        assert change.data["before"]["running"] is (lines.get("running", "yes") == "yes")


def test_each_service_is_a_change_of_its_own() -> None:
    params = StopParams(host="web-1", services=("nginx", "cron", "vsftpd"))
    changes = STOP.plan(params, observe(block(), block("cron", **STOPPED), block("vsftpd"), params=params))
    assert [one.data["name"] for one in changes] == ["nginx", "vsftpd"]


def test_a_second_try_knows_from_the_first_what_was_before() -> None:
    (first,) = STOP.plan(PARAMS, observe(block(ports="80"), answers=("open",)))
    half = {"boot": "masked", "off": "yes", "mask": ""}  # masked, and died before the stop
    (second,) = STOP.plan(PARAMS, observe(block(**half), earlier=(first,)))
    assert second.data["stop"] == ["nginx.service"]
    assert second.data["mask"] == []
    assert second.data["before"] == first.data["before"]
    assert second.data["before"]["boot"] == "enabled"


def test_everything_is_sent_with_the_epoch() -> None:
    (change,) = STOP.plan(PARAMS, observe(block(triggers="nginx.socket")))
    shell = FakeShell({"service.sh stop": "done=yes\n"})
    STOP.apply(change, context(shell=shell))
    ((script, args, _),) = shell.calls
    assert script == "service.sh"
    assert args == (
        "stop", "--epoch", "7", "--step", "containment/isolate-host_2.isolate@web-1", "--id", change.data["id"],
        "--kind", "systemd", "--mask", "nginx.service", "--stop", "nginx.socket,nginx.service",
    )  # fmt: skip


# ---------------------------------------------------------------- proof


def verify(after: str, *answers: str, disable: bool = True) -> Any:
    params = StopParams(host="web-1", services=("nginx",), disable=disable)
    seen = observe(block(ports="80,443"), params=params, answers=("open", "refused"))
    shell = FakeShell({"service.sh status": "manager=systemd\n" + after})
    proof = STOP.verify(params, seen, ({},), context(shell=shell, prober=FakeProber(list(answers))))
    assert shell.verbs() == ["status (new connection)"]
    return proof


def test_a_port_that_answered_before_must_not_any_more() -> None:
    proof = verify(block(**STOPPED), "refused")
    assert proof.passed
    assert [(one.name, one.before, one.after) for one in proof.checks] == [
        ("nginx is stopped", "running, enabled", "stopped, kept off"),
        ("nothing starts nginx", "running, enabled", "stopped, kept off"),
        ("port 80 of nginx does not answer the responder", "open", "refused"),
    ]
    assert verify(block(**STOPPED), "open").failed == ("port 80 of nginx does not answer the responder",)


@pytest.mark.parametrize(
    ("after", "disable", "failed"),
    [
        ({"running": "yes"}, True, ("nginx is stopped", "nothing starts nginx")),
        ({"running": "no"}, True, ("nothing starts nginx",)),
        ({"running": "no"}, False, ()),
        ({**STOPPED, "triggers": "nginx.socket"}, True, ("nothing starts nginx",)),
    ],
)
def test_what_still_runs_or_could_start_fails_the_proof(
    after: dict[str, Any], disable: bool, failed: tuple[str, ...]
) -> None:
    assert verify(block(**after), "refused", disable=disable).failed == failed


# ---------------------------------------------------------------- undo


def undo(change: Change, after: str, *answers: str) -> tuple[Any, FakeShell]:
    shell = FakeShell({"service.sh start": "done=yes\n", "service.sh status": "manager=systemd\n" + after})
    return STOP.undo(change, context(shell=shell, prober=FakeProber(list(answers)))), shell


def test_undo_starts_what_ran_in_its_order_and_waits_for_its_ports() -> None:
    lines = {"ports": "80", "triggers": "nginx.socket", "falls": "a.service"}
    (change,) = STOP.plan(PARAMS, observe(block(**lines), answers=("open",)))
    proof, shell = undo(Change.from_data(change.to_data()), block(), "refused", "refused", "open")
    assert proof.passed
    assert shell.calls[0][1][-4:] == ("--unmask", "nginx.service", "--start", "nginx.socket,nginx.service,a.service")
    assert [one.name for one in proof.checks] == [
        "nginx runs again", "port 80 of nginx answers the responder again", "nginx starts as before (enabled)",
    ]  # fmt: skip


def test_a_port_that_stays_silent_says_nothing_of_the_service() -> None:
    (change,) = STOP.plan(PARAMS, observe(block(ports="80"), answers=("open",)))
    proof, _ = undo(change, block(), "silent")
    assert proof.passed
    assert len(proof.checks) == 2


def test_what_was_stopped_is_not_started() -> None:
    (change,) = STOP.plan(PARAMS, observe(block(running="no", boot="disabled")))
    proof, shell = undo(change, block(running="no", boot="disabled"))
    assert proof.passed
    assert "--start" not in shell.calls[0][1]


@pytest.mark.parametrize(
    ("after", "failed"),
    [
        ({"running": "no"}, ("nginx runs again",)),
        ({"boot": "disabled"}, ("nginx starts as before (enabled)",)),
        ({"off": "yes"}, ("nginx starts as before (enabled)",)),
    ],
)
def test_what_is_not_as_before_is_no_undo(after: dict[str, Any], failed: tuple[str, ...]) -> None:
    (change,) = STOP.plan(PARAMS, observe(block()))
    assert undo(change, block(**after))[0].failed == failed


def test_the_mode_of_an_init_script_is_kept_for_undo() -> None:
    lines = {"kind": "init", "unit": "nginx", "mask": "nginx", "mode": "750"}
    (change,) = STOP.plan(PARAMS, observe(block(**lines)))
    _, shell = undo(change, block(**lines))
    assert shell.calls[0][1][-6:] == ("--unmask", "nginx", "--mode", "750", "--start", "nginx")
