"""A stand for measuring: lab hosts, and irflow's own processes around them as `irflow up` starts them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from irflow.core.journal import Draft, Event, Kind
from irflow.core.model import from_text
from irflow.core.ports import Store
from irflow.core.status import fold
from irflow.drill.alert import send
from irflow.drill.installation import Installation, install
from irflow.lab.lab import Lab
from irflow.supervisor.stack import Stack, start_stack
from irflow.wiring import load, open_store

SETTLE_S = 180.0


@dataclass(frozen=True)
class Stand:
    """What is up."""

    lab: Lab
    stack: Stack
    store: Store
    installation: Installation


@contextmanager
def stand(folder: Path, lab: Lab, *, first_response: bool) -> Iterator[Stand]:
    """The whole stack over a lab. first_response: off leaves containment to Prefect."""
    settings: dict[str, object] = {"responder": {"first_response": first_response}}
    installation = install(folder, lab, settings=settings)
    with ExitStack() as cleanup:
        config = load(folder)
        stack = cleanup.enter_context(start_stack(config.settings, report=lambda _: None))
        store = cleanup.enter_context(open_store(config.settings))
        yield Stand(lab, stack, store, installation)


def contain(here: Stand, hosts: Sequence[str]) -> tuple[float, list[Event]]:
    """Seconds from sending the alert to the last proven isolation, and the incident's events once it rests.

    Raises TimeoutError when a host is not contained.
    """
    sent = time.time()
    reply = send(here.stack.web_url, here.installation, hosts, title="benchmark")
    incident = reply["alerts"][0]["incident_id"]
    proven = _wait(here, incident, set(hosts))
    events = _rest(here, incident)
    return proven - sent, events


def _wait(here: Stand, incident: str, hosts: set[str]) -> float:
    """When the last host was proven cut off; only what is new is read, so that waiting costs those measured nothing."""
    deadline, seen = time.monotonic() + SETTLE_S, 0
    proven: dict[str, float] = {}
    while time.monotonic() < deadline:
        for event in here.store.events(incident, seen):
            seen = event.seq
            if event.kind == Kind.STEP_OUTCOME and event.data.get("leases"):
                proven[event.target] = from_text(event.at).timestamp()
        if hosts <= set(proven):
            return max(proven.values())
        time.sleep(0.05)
    raise TimeoutError(f"not contained: {hosts - set(proven)}")


def _rest(here: Stand, incident: str) -> list[Event]:
    """Wait until only people could go on, so that the next measurement finds an idle machine."""
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        status = fold(here.store.events(incident))
        phases = [status.phases.get(name) for name in ("detection", "containment")]
        if all(one and (one.ended_at or one.waiting_since) for one in phases):
            return here.store.events(incident)
        time.sleep(0.1)
    raise TimeoutError("the incident does not come to rest")


def clear(here: Stand, events: Sequence[Event], hosts: Sequence[str]) -> None:
    """Free the hosts past irflow and close the incident, so that the next run starts from nothing."""
    for name in hosts:
        here.lab.exec(
            here.lab.host(name), ["sh", "-c", "nft delete table inet irflow; rm -f /var/lib/irflow/isolation*"]
        )
    incident = fold(events).incident

    def close(tx: object) -> None:
        tx.append(incident.id, Draft(Kind.INCIDENT_CLOSED, "benchmark", {"reason": "measured"}))  # type: ignore[attr-defined]
        tx.index_incident(incident, closed=True)  # type: ignore[attr-defined]

    here.store.transact(close)
