"""What an event says is kept free of secrets: texts of errors, hosts and people come into the journal through here."""

from __future__ import annotations

from dataclasses import replace

from irflow.core.journal import Draft, Kind
from irflow.core.revealed import redact_all

EXACT = frozenset({
    Kind.INCIDENT_OPENED, Kind.ALERT_RECEIVED, Kind.ALERT_RESOLVED, Kind.PHASE_PLANNED, Kind.STEP_INTENT,
    Kind.STEP_INHERITED, Kind.UNDO_INTENT, Kind.APPROVAL_GIVEN, Kind.APPROVAL_REFUSED, Kind.EVIDENCE_TAKEN,
    Kind.DOCUMENT_WRITTEN, Kind.CHAIN_ANCHORED, Kind.CHAIN_JOINED,
})  # fmt: skip
"""Kept as they are: digests and signatures depend on them, what a target was like is put back from them, or they are
what somebody else said. irflow writes no secret into them: plans and changes have references, never values."""


def without_secrets(draft: Draft) -> Draft:
    """The draft as it may be written down."""
    if draft.kind in EXACT:
        return draft
    clean = redact_all(draft.data)
    return draft if clean == draft.data else replace(draft, data=clean)
