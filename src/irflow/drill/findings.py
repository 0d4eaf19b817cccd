"""What a drill finds in the records afterwards: evidence, documents, and how long containment took."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from irflow.core.errors import CheckFailed
from irflow.core.playbook import Phase
from irflow.core.status import IncidentStatus, State
from irflow.drill.scorecard import CheckScore, DocumentScore

CLAIMED = frozenset({State.DONE, State.NOOP})


def contained_at(status: IncidentStatus, actions: frozenset[str], victims: Iterable[str]) -> datetime | None:
    """When the last containing step was proved on the last victim; None while one is missing.

    actions: names of those that contain. A victim without such a step is not contained. victims: none where the action
    is not one on hosts; then one such step is enough.
    """
    plan = status.plan(Phase.CONTAINMENT)
    wanted = [one for one in (plan.steps if plan else ()) if one.action in actions]
    ends = [(one.target, status.step(one.key)) for one in wanted]
    if not ends or not set(victims) <= {target for target, _ in ends}:
        return None
    if any(step.state not in CLAIMED or step.ended_at is None for _, step in ends):
        return None
    return max(step.ended_at for _, step in ends if step.ended_at is not None)


def stuck(status: IncidentStatus) -> bool:
    """Whether containment goes no further by itself."""
    phase = status.phases.get(Phase.CONTAINMENT)
    return phase is not None and phase.blocked


def evidence_scores(
    folder: Path,
    status: IncidentStatus,
    victims: Iterable[str],
    profiles: frozenset[str],
    traces: Mapping[str, tuple[str, str]],
) -> list[CheckScore]:
    """The evidence is there for every host and profile, unchanged, and holds what the attack must leave in it."""
    scores = []
    for name in victims:
        items = [one for one in status.evidence if one["where"] == name]
        found = {str(one["profile"]) for one in items}
        same = all(_sha256(folder / one["path"]) == one["sha256"] for one in items)
        words = [", ".join(sorted(found)) or "none", "unchanged" if same else "CHANGED"]
        held = True
        if name in traces:
            what, text = traces[name]
            held = any(text in _text(folder / one["path"]) for one in items)
            words.append(f"{what} {'found' if held else 'NOT found'}")
        passed = profiles <= found and same and held
        scores.append(
            CheckScore(name=f"evidence from {name}", before="none", after="; ".join(words), passed=passed, host=name)
        )
    return scores


def documents(folder: Path, status: IncidentStatus, shown: Path) -> tuple[DocumentScore, ...]:
    """The documents that were written. shown: what their paths begin with. Raises CheckFailed for a changed one."""
    found = []
    for one in status.documents:
        sha256 = _sha256(folder / one["path"])
        if sha256 != one["sha256"]:
            raise CheckFailed("the document is not the one that was journalled", where=one["path"])
        found.append(DocumentScore(name=one["name"], path=str(shown / one["path"]), sha256=sha256))
    return tuple(found)


def document_score(wanted: Iterable[str], found: Iterable[DocumentScore]) -> CheckScore:
    """Whether every document that the scenario asks for was written."""
    names = sorted({one.name for one in found})
    passed = set(wanted) <= set(names)
    return CheckScore(name="documents written", before="none", after=", ".join(names) or "none", passed=passed)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _text(path: Path) -> str:
    """All text of a piece of evidence, for searching; most are archives (tar, maybe gzip)."""
    if path.suffix == ".txt":
        return path.read_text(errors="replace")
    with tarfile.open(path) as archive:
        parts = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
        return "\n".join(part.read().decode("utf-8", "replace") for part in parts if part is not None)
