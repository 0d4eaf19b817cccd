"""A scorecard says what passed and what did not, to machines as agreed and to people in as many lines as they read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from irflow.cli.drill import gathered, show
from irflow.core.alert import Trust
from irflow.core.incident import Incident
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus, PhaseStatus
from irflow.drill.scorecard import CheckScore, DocumentScore, PhaseScore, Scorecard, phase_scores

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES: tuple[tuple[str, str, str], ...] = (
    ("attacker's SSH session on {}", "alive", "dead"),
    ("{} by IPv4 from the attacker", "answers", "silent"),
    ("firewall of {} after release", "as before", "as before"),
)


def check(name: str, before: str = "a", after: str = "b", *, passed: bool = True, host: str = "") -> CheckScore:
    return CheckScore(name=name, before=before, after=after, passed=passed, host=host)


def card(hosts: int = 1, **more: Any) -> Scorecard:
    checks = [
        check(name.format(host), before, after, host=host)
        for host in (f"web-{number}" for number in range(1, hosts + 1))
        for name, before, after in NAMES
    ]
    plain: dict[str, Any] = {
        "scenario": "compromised-host", "level": "root", "incident": "IR-2026-0002", "hosts": hosts,
        "phases": (PhaseScore(phase="detection", window_s=900, elapsed_s=1.5, machine_s=1, human_s=0, met=True),),
        "checks": (*checks, check("incident closed", "open", "closed")), "time_to_contain_s": 0.25,
        "documents": (DocumentScore(name="incident-report", path="/x/documents/ID/report.md", sha256="0" * 64),),
        "journal_verified": True, "seconds": 20.0,
    }  # fmt: skip
    return Scorecard(**(plain | more))


def test_all_that_passed_is_a_passed_drill() -> None:
    assert card().passed and card().failed == ()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"checks": (check("x on web-1", passed=False), check("y"))}, ("x on web-1",)),
        ({"journal_verified": False}, ("journal verified",)),
        (
            {"phases": (PhaseScore(phase="recovery", window_s=1, elapsed_s=2, machine_s=2, human_s=0, met=False),)},
            ("phase recovery within its window",),
        ),
    ],
)
def test_what_did_not_pass_is_named(wrong: dict[str, Any], named: tuple[str, ...]) -> None:
    assert card(**wrong).failed == named
    assert not card(**wrong).passed
    assert card(**wrong).to_json()["passed"] is False


def test_the_json_begins_with_its_version_and_says_nothing_only_meant_for_showing() -> None:
    data = card().to_json()
    assert next(iter(data)) == "schema" and data["schema"] == 1
    checks = data["checks"]
    assert isinstance(checks, list) and checks[0].keys() == {"name", "before", "after", "passed"}


def test_few_hosts_have_their_own_lines() -> None:
    assert gathered(card(3)) == list(card(3).checks)


def test_what_passed_alike_on_many_hosts_is_one_line() -> None:
    assert [one.name for one in gathered(card(10))] == [
        "attacker's SSH session on 10 hosts", "10 hosts by IPv4 from the attacker",
        "firewall of 10 hosts after release", "incident closed",
    ]  # fmt: skip


def test_among_many_hosts_the_one_that_failed_or_differs_stands_alone() -> None:
    checks = list(card(10).checks)
    checks[3] = checks[3].model_copy(update={"after": "alive", "passed": False})
    checks[7] = checks[7].model_copy(update={"before": "silent"})
    found = [(one.name, one.passed) for one in gathered(card(10, checks=tuple(checks)))]
    assert ("attacker's SSH session on web-2", False) in found
    assert ("attacker's SSH session on 9 hosts", True) in found
    assert ("web-3 by IPv4 from the attacker", True) in found
    assert len(found) == 6


def test_host_names_that_begin_alike_are_not_mixed_up() -> None:
    checks = tuple(check(f"x on {host}", host=host) for host in ("web-1", "web-11", "web-111", "web-1111"))
    assert [one.name for one in gathered(card(4, checks=checks))] == ["x on 4 hosts"]


def test_people_see_the_verdict_last(capsys: pytest.CaptureFixture[str]) -> None:
    show(card(10, time_to_contain_s=None, journal_verified=False))
    out = capsys.readouterr().out
    assert "Drill compromised-host: 10 hosts, level root, incident IR-2026-0002" in out
    assert "time to contain: never   journal: NOT verified" in out
    assert "ID/report.md" in out and "/x/documents" not in out
    assert out.splitlines()[-1] == "FAILED: journal verified"


Phases = Callable[[str, float | None, str], IncidentStatus]


def status(*phases: PhaseStatus) -> IncidentStatus:
    incident = Incident(
        id="01JTESTTESTTESTTESTTESTTES", number="IR-2026-0002", type="t", severity=Severity.CRITICAL,
        trust=Trust.VERIFIED, title="t", detected_at=START, drill=True,
    )  # fmt: skip
    return IncidentStatus(incident, phases={one.phase: one for one in phases})


def phase(name: str, began_s: float, ended_s: float | None, outcome: str = "completed") -> PhaseStatus:
    end = None if ended_s is None else START + timedelta(seconds=ended_s)
    return PhaseStatus(name, started_at=START + timedelta(seconds=began_s), ended_at=end, outcome=outcome)


def test_a_phase_is_counted_from_detection_and_met_only_when_completed_in_time() -> None:
    found = status(
        phase("detection", 1, 890), phase("containment", 1, 901), phase("recovery", 901, 950, "cancelled"),
    )  # fmt: skip
    scores = {one.phase: one for one in phase_scores(found, START + timedelta(seconds=1000))}
    assert {name: (one.elapsed_s, one.met) for name, one in scores.items()} == {
        "detection": (890, True), "containment": (901, False), "recovery": (950, False),
        "lessons_learned": (1000, False),
    }  # fmt: skip


def test_waiting_for_a_person_is_not_the_machines_time() -> None:
    one = phase("containment", 0, 100)
    one.waits.append((START + timedelta(seconds=10), START + timedelta(seconds=70)))
    score = phase_scores(status(one), START + timedelta(seconds=200))[1]
    assert (score.machine_s, score.human_s) == (40, 60)
