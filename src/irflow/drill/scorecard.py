"""The scorecard of a drill (DESIGN section 6): what was seen before and after, and how long it took."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from irflow.core.clocks import WINDOW, elapsed
from irflow.core.model import Noun
from irflow.core.playbook import Phase
from irflow.core.status import TROUBLED, IncidentStatus, PhaseStatus


class PhaseScore(Noun):
    """One phase against its window. Seconds; elapsed is counted from detection, as the window is.

    trouble: what went wrong in it, a line per step: a phase counts only when every step did what it should.
    """

    phase: str
    window_s: float
    elapsed_s: float
    machine_s: float
    human_s: float
    met: bool
    trouble: tuple[str, ...] = ()


class CheckScore(Noun):
    """One observation from outside, before and after. host: whom it is about; only for showing many in one line."""

    name: str
    before: str
    after: str
    passed: bool
    host: str = Field(default="", exclude=True)


class DocumentScore(Noun):
    """One document that was written."""

    name: str
    path: str
    sha256: str


class Scorecard(Noun):
    """The result of a drill. level: how real the hosts were. time_to_contain_s: request received to isolation
    verified on the last host; null when it never was."""

    schema_: int = 1
    scenario: str
    level: str
    incident: str
    hosts: int
    phases: tuple[PhaseScore, ...]
    checks: tuple[CheckScore, ...]
    time_to_contain_s: float | None
    documents: tuple[DocumentScore, ...]
    journal_verified: bool
    seconds: float
    processes: tuple[tuple[str, float], ...] = ()
    sabotage: str | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of all that did not pass, phases and journal included."""
        return (
            *(check.name for check in self.checks if not check.passed),
            *(
                f"phase {phase.phase} " + ("; ".join(phase.trouble) or "within its window")
                for phase in self.phases
                if not phase.met
            ),
            *(() if self.journal_verified else ("journal verified",)),
        )

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return not self.failed

    def to_json(self) -> dict[str, object]:
        """As written to the --json file."""
        data = self.model_dump(mode="json")
        return {"schema": data.pop("schema_"), "passed": self.passed, **data}


def phase_scores(status: IncidentStatus, now: datetime) -> tuple[PhaseScore, ...]:
    """Each phase against its window; a phase that did not end has not met it."""
    scores = []
    for phase in Phase:
        known = status.phases.get(phase) or PhaseStatus(phase)
        end = known.ended_at or now
        _, machine, human = elapsed(known, now)
        since = (end - status.incident.detected_at).total_seconds()
        window = WINDOW[phase].total_seconds()
        met = known.ended_at is not None and known.outcome == "completed" and since <= window
        trouble = tuple(
            f"{key.partition('/')[2]}: {step.outcome.get('detail') or step.state.value}"
            for key, step in status.steps.items()
            if key.startswith(f"{phase}/") and step.state in TROUBLED
        )
        scores.append(
            PhaseScore(
                phase=phase.value, window_s=window, elapsed_s=since, machine_s=machine, human_s=human, met=met,
                trouble=trouble,
            )
        )  # fmt: skip
    return tuple(scores)
