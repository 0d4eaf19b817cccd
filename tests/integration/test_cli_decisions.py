"""What people decide through the command line, with real hosts behind it: exit codes, texts, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from tests.integration.cli_site import FIRST, SECOND, Desk, desk

DONE, USAGE, WAITS = 0, 2, 3
COMMANDER = ("--as", FIRST)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "lab") as running:
        yield running


@pytest.fixture
def at(tmp_path: Path, lab: Lab) -> Iterator[Desk]:
    """A new installation around the lab's hosts; whatever happens, they are reachable afterwards."""
    yield desk(tmp_path / "home", lab)
    for host in lab.hosts:
        lab.exec(host, ["sh", "-c", "nft delete table inet irflow; rm -rf /var/lib/irflow /run/irflow"])


@pytest.fixture
def host(lab: Lab) -> LabHost:
    return lab.hosts[0]


def dark(lab: Lab, host: LabHost) -> bool:
    return vantage.look(lab, host, "attacker", timeout_s=0.3).dark


def test_a_plan_is_looked_at_approved_by_its_digest_and_carried_out(at: Desk, lab: Lab, host: LabHost) -> None:
    number = at.alert(host.name)
    assert at.work(number, "containment").state == "awaiting_approval"
    assert not dark(lab, host), "high severity is not pre-approved"
    shown = at.irflow("plan", number, "--phase", "containment", "--json")
    (plan,) = shown.json if isinstance(shown.json, list) else shown.json["plans"]
    assert plan["digest"] in at.irflow("plan", number, "--phase", "containment").out
    assert at.irflow("approve", number, "--digest", "0" * 64, *COMMANDER).code == WAITS
    agreed = at.irflow("approve", number, "--digest", plan["digest"][:12], *COMMANDER, "--json")
    assert (agreed.code, agreed.json["digest"], agreed.json["still_needed"]) == (DONE, plan["digest"], 0)
    at.work(number, "containment")
    assert dark(lab, host)
    (lease,) = at.irflow("leases", "list", "--json").json
    assert (lease["incident"], lease["target"]) == (number, host.name)


def test_nobody_approves_twice_or_in_a_role_they_do_not_hold(at: Desk, host: LabHost) -> None:
    number = at.alert(host.name)
    at.work(number, "containment")
    nobody = at.irflow("approve", number)
    assert nobody.code == WAITS
    assert "--as NAME" in nobody.err, "the account stands for two operators"
    assert "--as" in nobody.err
    at.edit("operators.yaml", lambda data: data["operators"][SECOND].update(roles=["communications"]))
    assert "holds none of the roles" in at.irflow("approve", number, "--as", SECOND).err
    assert at.irflow("approve", number, *COMMANDER).code == DONE
    again = at.irflow("approve", number, *COMMANDER)
    assert again.code == WAITS
    assert "Traceback" not in again.err


def test_a_refused_plan_leaves_the_host_alone_and_the_incident_says_why(at: Desk, lab: Lab, host: LabHost) -> None:
    number = at.alert(host.name)
    at.work(number, "containment")
    assert at.irflow("approve", number, "--refuse", "--reason", "a test machine", *COMMANDER).code == DONE
    at.work(number, "containment")
    assert not dark(lab, host)
    states = {one["key"]: one["state"] for one in at.irflow("incidents", "show", number, "--json").json["steps"]}
    assert states[f"containment/isolate-host.isolate@{host.name}"] == State.REFUSED
    assert "approval.refused" in at.kinds(number)


def test_a_manual_step_is_answered_by_who_holds_its_role(at: Desk, host: LabHost) -> None:
    number = at.alert(host.name, severity="critical")
    at.work(number, "containment")
    key = "containment/isolate-host.tell-owner"
    told = at.irflow("step", number, key, "--decision", "proceed", "--as", SECOND)
    assert (told.code, "proceed is no answer here" in told.err) == (USAGE, True)
    told = at.irflow("step", number, "nothing", "--decision", "proceed", "--as", SECOND)
    assert (told.code, "nothing waits for no decision" in told.err) == (USAGE, True)
    told = at.irflow("step", number, key, "--outcome", "skipped", "--field", "called=yes", "--as", SECOND)
    assert (told.code, "--field is for what was done" in told.err) == (USAGE, True)
    assert "holds none of the roles communications" in at.irflow("step", number, key, *COMMANDER).err
    assert at.kinds(number)[-1] == Kind.ANSWER_REJECTED
    assert at.irflow("step", number, key, "--note", "called", "--as", SECOND).code == DONE
    assert at.status(number).step(key).state is State.DONE
    assert at.irflow("step", number, key, "--as", SECOND).code == WAITS, "it does not wait any more"


def test_a_halt_stops_everything_until_it_is_lifted(at: Desk, lab: Lab, host: LabHost) -> None:
    number = at.alert(host.name, severity="critical")
    assert at.irflow("halt", "--reason", "false alarms", *COMMANDER).code == DONE
    at.work(number, "containment")
    assert not dark(lab, host)
    assert "HALTED" in at.irflow("incidents", "list").out
    assert at.irflow("resume", *COMMANDER).code == DONE
    at.work(number, "containment")
    assert dark(lab, host)


def test_a_decision_while_halted_says_that_nothing_comes_of_it_yet(at: Desk, host: LabHost) -> None:
    number = at.alert(host.name)
    at.work(number, "containment")
    assert at.irflow("halt", "--reason", "false alarms", *COMMANDER).code == DONE
    told = at.irflow("approve", number, *COMMANDER)
    assert (told.code, "automation is halted (false alarms)" in told.err) == (DONE, True)


def test_a_run_by_hand_contains_and_releases_and_its_exit_code_says_so(at: Desk, lab: Lab, host: LabHost) -> None:
    dry = at.irflow("run", "isolate-host", "--param", f"hosts={host.name}", "--dry-run", "--json", *COMMANDER)
    assert dry.code == DONE, dry.err
    assert isinstance(dry.json, dict)
    assert not dark(lab, host)
    unasked = at.irflow("run", "isolate-host", "--param", f"hosts={host.name}", "--local", "--json", *COMMANDER)
    assert unasked.code == WAITS, "without --yes its plan waits for an approval"
    run = at.irflow("run", "isolate-host", "--param", f"hosts={host.name}", "--local", "--yes", "--json", *COMMANDER)
    assert run.code == WAITS, "the cut is done, the call to the owner waits"
    assert dark(lab, host)
    number = run.json["incident"]
    assert "still in force" in at.irflow("incidents", "close", number, "--reason", "x", *COMMANDER).err
    release = ("run", "release-host", "--param", f"hosts={host.name}", "--incident", number, "--local", "--yes")
    assert at.irflow(*release, *COMMANDER).code == DONE
    assert not dark(lab, host)
    assert at.irflow("incidents", "close", number, "--reason", "over", *COMMANDER).code == DONE
    assert number not in at.irflow("incidents", "list").out
    assert number in at.irflow("incidents", "list", "--all").out


def test_evidence_documents_and_journal_are_there_to_be_shown_and_verified(at: Desk, host: LabHost) -> None:
    number = at.alert(host.name, severity="critical")
    at.work(number, "detection")
    at.work(number, "containment")
    items = at.irflow("evidence", "list", number, "--json").json
    assert {one["profile"] for one in items} == {"snapshot", "volatile"}
    assert at.irflow("evidence", "verify", number).code == DONE
    (report,) = at.irflow("documents", "list", number, "--json").json
    assert number in at.irflow("documents", "show", number, report["name"]).out
    verdict = at.irflow("journal", "verify", "--json")
    assert verdict.code == DONE
    assert all(row["passed"] for row in verdict.json)
    exported = at.irflow("journal", "export", number)
    assert [json.loads(line)["seq"] for line in exported.out.splitlines()][:3] == [1, 2, 3]
    path = at.home / "evidence" / items[0]["path"]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")
    assert at.irflow("evidence", "verify", number).code == 1


def test_text_that_an_alert_brought_never_reaches_the_terminal_as_commands(at: Desk, host: LabHost) -> None:
    number = at.alert(host.name, title="\x1b[2J\x1b]0;owned\x07red\u202ealert", severity="low")
    for arguments in (("incidents", "list"), ("incidents", "show", number), ("incidents", "list", "--json")):
        out = at.irflow(*arguments).out
        assert all(one == "\n" or one.isprintable() for one in out), repr(out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("incidents", "show", "IR-1999-0001"), ("plan", "IR-1999-0001"), ("undo", "IR-1999-0001", *COMMANDER),
        ("run", "isolate-host", "--param", "hosts", *COMMANDER), ("evidence", "list", "nothing"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_a_usage_error_with_a_way_on(at: Desk, arguments: tuple[str, ...]) -> None:
    done = at.irflow(*arguments)
    assert done.code == USAGE, done.err
    assert done.out == ""
    assert done.err.startswith(("error: ", "Usage: "))


def test_a_host_that_the_inventory_does_not_have_is_refused(at: Desk) -> None:
    done = at.irflow("run", "isolate-host", "--param", "hosts=nowhere", "--local", *COMMANDER)
    assert done.code == WAITS
    assert "the inventory has no host 'nowhere'" in done.err
