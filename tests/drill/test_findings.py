"""Containment counts when its last step is proved on every victim; evidence and documents when they are unchanged."""

from __future__ import annotations

import hashlib
import io
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from irflow.core.alert import Trust
from irflow.core.errors import CheckFailed
from irflow.core.incident import Incident
from irflow.core.plan import Plan, PlanStep
from irflow.core.severity import Severity
from irflow.core.status import IncidentStatus, PhaseStatus, State, StepStatus
from irflow.drill import findings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ISOLATE = frozenset({"host.isolate"})


def status(*steps: tuple[str, str, State, float | None]) -> IncidentStatus:
    """Steps of the containment phase: (action, target, state, seconds until it ended)."""
    incident = Incident(
        id="01JTESTTESTTESTTESTTESTTES", number="IR-2026-0002", type="t", severity=Severity.CRITICAL,
        trust=Trust.VERIFIED, title="t", detected_at=START, drill=True,
    )  # fmt: skip
    planned = tuple(
        PlanStep(key=f"containment/r.{action}@{target}", runbook="r", step="s", title="t", action=action, target=target)
        for action, target, _, _ in steps
    )
    plan = Plan(incident=incident.id, phase="containment", steps=planned)
    found = IncidentStatus(incident, phases={"containment": PhaseStatus("containment", plan=plan)})
    for one, (_, target, state, ended) in zip(planned, steps, strict=True):
        end = None if ended is None else START + timedelta(seconds=ended)
        found.steps[one.key] = StepStatus(one.key, target, state, ended_at=end)
    return found


def test_containment_is_over_when_the_last_victim_is_proved() -> None:
    found = status(
        ("evidence.collect", "a", State.OPEN, None), ("host.isolate", "a", State.DONE, 1),
        ("host.isolate", "b", State.NOOP, 3),
    )  # fmt: skip
    assert findings.contained_at(found, ISOLATE, ["a", "b"]) == START + timedelta(seconds=3)


@pytest.mark.parametrize(
    "state", [State.PENDING, State.AWAITING, State.OPEN, State.FAILED, State.UNKNOWN, State.UNDONE]
)
def test_one_step_that_is_not_proved_is_no_containment(state: State) -> None:
    found = status(("host.isolate", "a", State.DONE, 1), ("host.isolate", "b", state, 2))
    assert findings.contained_at(found, ISOLATE, ["a", "b"]) is None


def test_a_victim_that_no_step_is_about_is_not_contained() -> None:
    found = status(("host.isolate", "a", State.DONE, 1), ("evidence.collect", "b", State.DONE, 2))
    assert findings.contained_at(found, ISOLATE, ["a", "b"]) is None


def test_without_a_plan_nothing_is_contained() -> None:
    bare = status()
    bare.phases.clear()
    assert findings.contained_at(bare, ISOLATE, ["a"]) is None
    assert not findings.stuck(bare)


def test_a_blocked_phase_goes_no_further_by_itself() -> None:
    found = status(("host.isolate", "a", State.FAILED, 1))
    assert not findings.stuck(found)
    found.phases["containment"].blocked = True
    assert findings.stuck(found)


def archive(folder: Path, name: str, text: str) -> dict[str, str]:
    path = folder / name
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("processes")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return {
        "where": "a", "profile": name, "path": name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip


PROFILES = frozenset({"snapshot", "volatile"})
TRACES = {"a": ("deleted binary", "cafe1234")}


def evidence(folder: Path, texts: dict[str, str]) -> IncidentStatus:
    found = status()
    found.evidence += [dict(archive(folder, name, text)) for name, text in texts.items()]
    return found


def test_evidence_of_every_profile_with_the_attackers_trace_passes(tmp_path: Path) -> None:
    found = evidence(tmp_path, {"snapshot": "x", "volatile": "has cafe1234 in it"})
    (score,) = findings.evidence_scores(tmp_path, found, ["a"], PROFILES, TRACES)
    assert (score.passed, score.after) == (True, "snapshot, volatile; unchanged; deleted binary found")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"snapshot": "cafe1234"}, "snapshot; unchanged; deleted binary found"),
        ({"snapshot": "x", "volatile": "y"}, "snapshot, volatile; unchanged; deleted binary NOT found"),
        ({}, "none; unchanged; deleted binary NOT found"),
    ],
)
def test_evidence_that_lacks_something_fails_and_says_what(texts: dict[str, str], said: str, tmp_path: Path) -> None:
    (score,) = findings.evidence_scores(tmp_path, evidence(tmp_path, texts), ["a"], PROFILES, TRACES)
    assert (score.passed, score.after) == (False, said)


def test_evidence_that_was_changed_fails(tmp_path: Path) -> None:
    found = evidence(tmp_path, {"snapshot": "x", "volatile": "cafe1234"})
    found.evidence[0]["sha256"] = "0" * 64
    (score,) = findings.evidence_scores(tmp_path, found, ["a"], PROFILES, TRACES)
    assert not score.passed and "CHANGED" in score.after


def test_documents_are_shown_where_readers_find_them_and_must_be_unchanged(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("text")
    sha256 = hashlib.sha256(b"text").hexdigest()
    found = status()
    found.documents.append({"name": "incident-report", "path": "report.md", "sha256": sha256})
    (one,) = findings.documents(tmp_path, found, Path("/kept/documents"))
    assert (one.path, one.sha256) == ("/kept/documents/report.md", sha256)
    assert findings.document_score(["incident-report"], [one]).passed
    assert not findings.document_score(["incident-report", "post-incident-review"], [one]).passed
    (tmp_path / "report.md").write_text("other")
    with pytest.raises(CheckFailed, match="not the one"):
        findings.documents(tmp_path, found, Path("documents"))
