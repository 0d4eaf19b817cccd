"""A rehearsal of planning: every phase of a playbook planned for an incident that did not happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from irflow.adapters.catalog.load import LoadedCatalog
from irflow.core.alert import Trust
from irflow.core.errors import ConfigurationError, IrflowError
from irflow.core.incident import Incident
from irflow.core.inventory import Host, Inventory
from irflow.core.model import Json
from irflow.core.plan import Plan
from irflow.core.planner import plan_phase
from irflow.core.playbook import Phase, Playbook
from irflow.core.runbook import ParameterType, Runbook
from irflow.core.severity import Severity

SAMPLE_HOSTS = 2
SAMPLE_ADDRESS = "192.0.2.1"
"""From TEST-NET-1 (RFC 5737)."""
SAMPLE_HOST = Host(name="sample-host", address=SAMPLE_ADDRESS, key="file:sample-key")

_SAMPLES: dict[ParameterType, Json] = {
    ParameterType.HOSTS: "{{ incident.hosts }}",
    ParameterType.HOST: "{{ incident.hosts[0] }}",
    ParameterType.ADDRESSES: [SAMPLE_ADDRESS],
    ParameterType.DURATION: "1h",
    ParameterType.STRING: "sample",
    ParameterType.STRINGS: ["sample"],
    ParameterType.INTEGER: 1,
    ParameterType.BOOLEAN: True,
}


@dataclass(frozen=True)
class Rehearsal:
    """How planning one phase went. plan: None with an error.

    left_out: steps (`runbook.step`) whose targets or parameters come from results that only a real incident has.
    """

    playbook: str
    phase: Phase
    severity: Severity
    plan: Plan | None
    left_out: tuple[str, ...]
    error: ConfigurationError | None


def dry_plan(loaded: LoadedCatalog, playbook: Playbook, *, now: datetime | None = None) -> tuple[Rehearsal, ...]:
    """Plan every phase of a playbook for a sample incident on the inventory's first hosts, once per severity it is for.

    Nothing is touched and nothing raised: mistakes are in the rehearsals, each at the playbook's line.
    """
    inventory = loaded.inventory
    if not inventory.hosts:
        inventory = Inventory(hosts={SAMPLE_HOST.name: SAMPLE_HOST})
    hosts = tuple(inventory.hosts)[:SAMPLE_HOSTS]
    runbooks, left_out = _without_results(loaded)
    catalog = replace(loaded, inventory=inventory, runbooks=runbooks)
    fixed = _without_results_in(playbook, loaded)
    rehearsals = []
    for severity in playbook.match.severity or tuple(Severity):
        incident = Incident(
            id="0" * 26, number="IR-0000-0000", type=playbook.match.types[0], severity=severity, trust=Trust.VERIFIED,
            title="Rehearsal", hosts=hosts, addresses=(SAMPLE_ADDRESS,), accounts=("sample",), secrets=("sample",),
            playbook=playbook.playbook, detected_at=now or datetime.now(UTC), drill=True,
        )  # fmt: skip
        for phase in Phase:
            missing = tuple(
                f"{call.runbook}.{step}"
                for call in playbook.phases.get(phase, ())
                for step in left_out.get(call.runbook, ())
            )
            plan, error = None, None
            try:
                plan = plan_phase(catalog, incident, fixed, phase)
            except IrflowError as wrong:
                file = loaded.files[playbook.playbook]
                error = file.error(
                    f"{phase.value} cannot be planned: {wrong.message}", "phases", phase.value, hint=wrong.hint
                )
            rehearsals.append(Rehearsal(playbook.playbook, phase, severity, plan, missing, error))
    return tuple(rehearsals)


def _without_results(loaded: LoadedCatalog) -> tuple[Mapping[str, Runbook], dict[str, tuple[str, ...]]]:
    """The runbooks without the steps that read results of earlier ones; a condition on results counts as true."""
    runbooks, left_out = dict(loaded.runbooks), {}
    reads = _reader(loaded)
    for name, runbook in loaded.runbooks.items():
        kept, gone = [], []
        for step in runbook.steps:
            if reads(step.for_each) or reads(step.arguments) or reads(step.manual):
                gone.append(step.id)
            else:
                kept.append(step.model_copy(update={"when": None}) if reads(step.when) else step)
        if gone and kept:
            runbooks[name] = runbook.model_copy(update={"steps": tuple(kept)})
        elif gone:
            sample = runbook.steps[0].model_copy(
                update={"action": None, "manual": "sample", "arguments": {}, "for_each": None, "when": None}
            )
            runbooks[name] = runbook.model_copy(update={"steps": (sample,)})
        if gone:
            left_out[name] = tuple(gone)
    return runbooks, left_out


def _without_results_in(playbook: Playbook, loaded: LoadedCatalog) -> Playbook:
    """The playbook with samples for arguments that come from results."""
    reads = _reader(loaded)
    phases = {}
    for phase, calls in playbook.phases.items():
        fixed = []
        for call in calls:
            parameters = loaded.runbooks[call.runbook].parameters
            arguments = {
                name: _SAMPLES[parameters[name].type] if reads(value) else value
                for name, value in call.arguments.items()
            }
            fixed.append(call.model_copy(update={"arguments": arguments}))
        phases[phase] = tuple(fixed)
    return playbook.model_copy(update={"phases": phases})


def _reader(loaded: LoadedCatalog) -> Callable[[Json], bool]:
    """Whether a value has an expression that reads results."""

    def reads(value: Json) -> bool:
        if isinstance(value, str):
            return "results" in loaded.expressions.names(value).names
        if isinstance(value, dict):
            return any(reads(one) for one in value.values())
        if isinstance(value, list | tuple):
            return any(reads(one) for one in value)
        return False

    return reads
