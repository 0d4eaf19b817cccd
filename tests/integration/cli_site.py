"""An installation over a lab that is worked with through the command line alone."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulid import ULID

from irflow.adapters.threads import ThreadExecutor
from irflow.core.phase import PhaseResult, execute
from irflow.core.playbook import Phase
from irflow.core.status import IncidentStatus, State, fold
from irflow.drill.installation import Installation, install
from irflow.lab.lab import Lab
from irflow.wiring import load, open_runtime, open_store
from tests.cli.conftest import Done, run

FIRST, SECOND = "first-responder", "second-responder"
ROUNDS = 8
"""Of work and decisions in a phase: more are needed by none."""


@dataclass(frozen=True)
class Desk:
    """Where people type. Commands are given as first-responder where they ask who it is."""

    installation: Installation
    lab: Lab

    @property
    def home(self) -> Path:
        return self.installation.home

    def irflow(self, *arguments: str) -> Done:
        return run(self.home, *arguments)

    def alert(self, *hosts: str, severity: str = "high", **more: object) -> str:
        """An alert from a file; the number of its incident."""
        path = self.home / f"{secrets.token_hex(4)}.json"
        data = {"type": "system_compromise", "severity": severity, "title": "Beacon", "hosts": list(hosts), **more}
        path.write_text(json.dumps(data))
        done = self.irflow("respond", "--alert", str(path), "--as", FIRST, "--json")
        assert done.code == 0, done.err
        return self.number(done.json["alerts"][0]["incident_id"])

    def number(self, incident: str) -> str:
        with open_store(load(self.home).settings) as store:
            found = store.find_incident(incident)
        assert found is not None
        return found.number

    def status(self, incident: str) -> IncidentStatus:
        with open_store(load(self.home).settings) as store:
            found = store.find_incident(incident)
            assert found is not None
            return fold(store.events(found.id))

    def kinds(self, incident: str) -> list[str]:
        """Kinds of all events of an incident, in order."""
        with open_store(load(self.home).settings) as store:
            found = store.find_incident(incident)
            return [str(one.kind) for one in store.events(found.id if found else incident)]

    def work(self, incident: str, phase: str) -> PhaseResult:
        """Run a phase as far as it goes, as the responder would."""
        with open_runtime(load(self.home), process="responder") as wired, ThreadExecutor() as executor:
            found = wired.store.find_incident(incident)
            assert found is not None
            return execute(wired.engine, found.id, phase, executor, run_id=str(ULID()), kind="threads")

    def go_through(self, number: str, phase: Phase, *, undo: bool = True) -> int:
        """A phase to its end: people approve, and answer what they are asked. Returns how many approvals it took.

        undo: whether they take everything back where the runbook asks for it.
        """
        approvals = 0
        for _ in range(ROUNDS):
            result = self.work(number, phase)
            if result.state == "ended":
                return approvals
            waiting = [step for step in self.status(number).steps.values() if step.state is State.AWAITING]
            assert waiting, result.open_items
            for who in (FIRST, SECOND):
                approvals += self.irflow("approve", number, "--as", who).code == 0
                for step in waiting:
                    if step.key.endswith("end-containment.take-back") and undo:
                        undone = self.irflow("undo", number, "--yes", "--as", who)
                        assert undone.code in (0, 3), undone.err
                    self.irflow("step", number, step.key, "--note", "done", "--as", who)
        raise AssertionError(f"{phase} of {number} does not end: {result.open_items}")

    def edit(self, name: str, change: Any) -> None:
        """Change a configuration file: `change` gets its data and alters it."""
        path = self.home / name
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))


def desk(home: Path, lab: Lab) -> Desk:
    """A new installation around the lab."""
    return Desk(install(home, lab), lab)
