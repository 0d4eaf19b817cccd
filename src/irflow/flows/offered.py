"""The deployments that an installation should have: one per shipped flow, one per runbook, one per playbook."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from prefect.utilities.callables import parameter_schema

from irflow import __version__
from irflow.adapters.prefect_api import DEPLOYMENT
from irflow.core.forms import playbook_form, runbook_form
from irflow.core.playbook import Phase, Playbook
from irflow.core.runbook import Runbook, Step
from irflow.flows.names import PLAYBOOKS, RUNBOOKS
from irflow.flows.shipped import FLOWS
from irflow.wiring import Configuration


@dataclass(frozen=True)
class Offer:
    """One deployment as it should be. schedule: a cron expression in UTC; empty for none."""

    flow: str
    name: str
    description: str
    tags: tuple[str, ...]
    schema: dict[str, Any]
    schedule: str = ""

    @property
    def path(self) -> str:
        """What Prefect calls it."""
        return f"{self.flow}/{self.name}"

    @property
    def version(self) -> str:
        """The version of irflow and a hash of everything that the deployment is made from."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{__version__}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def offers(config: Configuration) -> tuple[Offer, ...]:
    """All of them."""
    catalog = config.catalog
    return (
        *_flows(config.settings.drill_schedule),
        *(_runbook(config, one) for one in catalog.runbooks.values()),
        *(_playbook(config, one) for one in catalog.playbooks.values()),
    )


def _flows(drill_schedule: str) -> Iterator[Offer]:
    for flow in FLOWS.values():
        if flow.name not in (RUNBOOKS, PLAYBOOKS):
            schema = parameter_schema(flow).model_dump_for_openapi()
            schedule = drill_schedule if flow.name == "drill" else ""
            yield Offer(flow.name, DEPLOYMENT, flow.description or "", ("irflow",), schema, schedule)


def _runbook(config: Configuration, runbook: Runbook) -> Offer:
    tags = ("irflow", "runbook", *phases_calling(runbook.runbook, config.catalog.playbooks.values()))
    schema = runbook_form(runbook, config.catalog.inventory, config.operators)
    return Offer(RUNBOOKS, runbook.runbook, runbook_text(runbook), tags, schema)


def _playbook(config: Configuration, playbook: Playbook) -> Offer:
    tags = ("irflow", "playbook", *(one.value for one in playbook.match.severity))
    catalog = config.catalog
    schema = playbook_form(playbook, catalog.runbooks, catalog.inventory, config.operators, config.secrets.secrets)
    return Offer(PLAYBOOKS, playbook.playbook, playbook_text(playbook), tags, schema)


def phases_calling(runbook: str, playbooks: Iterable[Playbook]) -> tuple[str, ...]:
    """The phases, in order, in which any playbook calls the runbook."""
    found = {
        phase for one in playbooks for phase, calls in one.phases.items() for call in calls if call.runbook == runbook
    }
    return tuple(phase.value for phase in Phase if phase in found)


def runbook_text(runbook: Runbook) -> str:
    """Title, description and steps in Markdown; all of it comes from YAML, which whoever runs irflow wrote."""
    steps = [f"{place}. {_step(step)}" for place, step in enumerate(runbook.steps, 1)]
    return "\n\n".join(filter(None, (f"**{runbook.title}**", runbook.description, "\n".join(steps))))


def _step(step: Step) -> str:
    if step.manual is not None:
        return f"{step.title} (by hand{f', {step.role}' if step.role else ''})"
    return f"{step.title} (`{step.action}`{f', approval: {step.approval}' if step.approval else ''})"


def playbook_text(playbook: Playbook) -> str:
    """Title, what it is for, and the runbooks of each phase, in Markdown."""
    lines = [
        f"- {phase.value.replace('_', ' ')}: {', '.join(call.runbook for call in calls)}"
        for phase in Phase
        if (calls := playbook.phases.get(phase))
    ]
    return "\n\n".join((f"**{playbook.title}**", f"For {', '.join(playbook.match.types)}.", "\n".join(lines)))
