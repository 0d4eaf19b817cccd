"""A local run's state as one event: JSON that a chain can hold, from which undo, leases and documents go on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from ulid import ULID

from irflow.adapters.templates import TemplateDocuments
from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.approvals import Operator
from irflow.core.incident import Incident
from irflow.core.joining import export_state
from irflow.core.journal import Draft, Kind, canonical
from irflow.core.model import Json
from irflow.core.phase import execute
from irflow.core.record import scope
from irflow.core.status import State, fold
from irflow.core.taking_back import TakeBack, look, request
from irflow.shipped import shipped
from tests.fakes.world import World, host, world

COMMANDER = Operator(name="c", login="root", roles=("incident_commander",))
CUT = "containment/cut-off.cut@a"
LEASE: dict[str, Json] = {"kind": "isolation", "until": "2036-01-01T00:00:00.000000Z", "seconds": 60.0}


def locally_done(folder: Path) -> tuple[World, Incident]:
    """A run with a journal of its own: a host was cut off, its owner was still to be told."""
    folder.mkdir()
    away = world(folder, host("a"))
    incident = away.incident("a")
    with ThreadExecutor() as executor:
        execute(away.engine, incident.id, "containment", executor, run_id=str(ULID()), kind="threads")
    away.store.transact(lambda tx: tx.append(incident.id, Draft(Kind.LEASE_RENEWED, "test", LEASE, CUT, "a")))
    return away, incident


def joined(here: World, away: World, local: Incident) -> Incident:
    incident = here.incident()
    events = away.store.events(local.id)
    state = export_state(fold(events))
    assert canonical(state)
    data: dict[str, Json] = {
        "journal": "LOCAL-X", "incident": local.id, "seq": len(events), "hash": events[-1].hash, "state": state
    }  # fmt: skip
    here.store.transact(lambda tx: tx.append(incident.id, Draft(Kind.CHAIN_JOINED, "test", data)))
    return incident


def test_what_a_local_run_did_is_known_kept_and_can_be_taken_back(tmp_path: Path) -> None:
    away, local = locally_done(tmp_path / "away")
    here = world(tmp_path, host("a"), owner="two", shared=away.hosts)
    incident = joined(here, away, local)
    status = here.engine.status(incident.id)
    assert status.incident.hosts == ("a",)
    assert list(status.leases) == [("isolation", "a")]
    assert (status.step(CUT).state, status.plan_step(CUT).action) == (State.DONE, "test.cut")
    assert status.step("containment/cut-off.tell").state is State.SKIPPED, "nobody can answer what was asked elsewhere"
    plan = look(here.store, here.engine.catalog, incident.id)
    agreed = here.store.transact(
        lambda tx: request(tx, here.engine, plan, COMMANDER, method="t", step=None, reason="", held={})
    )
    assert [one.state for one in TakeBack(here.engine, "operator:c").run(agreed.plan)] == [State.UNDONE]
    assert not here.hosts.cut
    assert not here.engine.status(incident.id).leases
    here.store.transact(lambda tx: decisions.close(tx, incident.id, COMMANDER, "over"))


@pytest.mark.parametrize("document", ["incident-report", "stakeholder-update", "post-incident-review"])
def test_documents_can_be_written_of_an_incident_that_was_joined_timed_out_inherited_and_undone(
    tmp_path: Path, document: str
) -> None:
    away, local = locally_done(tmp_path / "away")
    here = world(tmp_path, host("a"), owner="two", shared=away.hosts)
    incident = joined(here, away, local)
    timed_out: dict[str, Json] = {
        "phase": "containment", "digest": "d", "steps": [CUT], "short": [CUT], "seconds": 1800.0, "window_s": 600.0
    }  # fmt: skip
    inherited: dict[str, Json] = {"changes": [], "facts": {}, "from": "IR-2026-0009", "step": CUT}
    asked: dict[str, Json] = {"digest": "d", "steps": [CUT], "dropped": [], "operators": ["c"], "reason": "wrong host"}
    drafts = [
        Draft(Kind.APPROVAL_TIMED_OUT, "test", timed_out),
        Draft(Kind.STEP_INHERITED, "test", inherited, CUT, "a"),
        Draft(Kind.HOST_ADDED, "test", {"hosts": [], "addresses": ["203.0.113.9"], "accounts": ["mallory"]}),
        Draft(Kind.UNDO_REQUESTED, "operator:c", asked),
        Draft(Kind.UNDO_INTENT, "operator:c", {"changes": ["cut it"]}, CUT, "a", 7),
    ]
    here.store.transact(lambda tx: tx.append(incident.id, *drafts))
    events = here.store.events(incident.id)
    text = TemplateDocuments([shipped("templates")]).render(document, scope(fold(events), events, datetime.now(UTC)))
    if document == "incident-report":
        for words in (
            "nobody answered in time",
            "IR-2026-0009 had done it",
            "wrong host",
            "203.0.113.9, mallory",
            "undoing",
        ):
            assert words in text
