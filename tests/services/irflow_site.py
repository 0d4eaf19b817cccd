"""An installation over a lab, with its journal opened by the test: alerts come in, hosts are looked at from outside."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from irflow.adapters.journal_sql import SqlStore
from irflow.core.alert import Trust
from irflow.core.journal import Event, Kind
from irflow.core.status import IncidentStatus, State, fold
from irflow.drill.installation import SOURCE, Installation, install
from irflow.intake import standard
from irflow.intake.accept import Request, accept
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.wiring import Configuration, load, open_store, verify_journals

EPOCH_FILE = "/var/lib/irflow/isolation.epoch"


@dataclass(frozen=True)
class Isolation:
    """What a host's kernel and disk hold of ours.

    kinds: what arms the rules, `deadman` until confirmed, then `lease`. left_s: until the kernel disarms them.
    epoch: the highest that changed something there; 0 for none.
    """

    tables: int
    kinds: tuple[str, ...]
    left_s: int
    epoch: int


@dataclass(frozen=True)
class Site:
    """What a test works with."""

    lab: Lab
    config: Configuration
    store: SqlStore
    installation: Installation

    @property
    def home(self) -> Path:
        return self.installation.home

    def alert(self, *hosts: str, type: str = "system_compromise") -> str:
        """Take in a critical alert about hosts as the web process does. Returns the incident's id."""
        now = datetime.now(UTC)
        body = json.dumps(
            {
                "type": type, "severity": "critical", "title": "Beacon", "hosts": list(hosts),
                "fingerprint": secrets.token_hex(8),
            }
        ).encode()  # fmt: skip
        source = next(one for one in self.config.sources if one.name == SOURCE)
        request = Request(source, secrets.token_hex(8), body, now, Trust.VERIFIED)
        parcel = standard.read(source, body)
        catalog = self.config.catalog
        playbooks = tuple(catalog.playbooks.values())
        receipt = self.store.transact(lambda tx: accept(tx, request, parcel, catalog.inventory, playbooks))
        return str(receipt.response["alerts"][0]["incident_id"])

    def status(self, incident: str) -> IncidentStatus:
        return fold(self.store.events(incident))

    def events(self, incident: str, kind: Kind, step: str = "") -> list[Event]:
        """Events of one kind, of steps whose key contains `step`."""
        return [one for one in self.store.events(incident) if one.kind == kind and step in one.step]

    def open_intents(self, incident: str) -> list[str]:
        """Steps that were begun and have no outcome."""
        return [key for key, step in self.status(incident).steps.items() if step.state is State.OPEN]

    def verified(self) -> list[str]:
        """What is wrong with the journals; nothing when they are intact."""
        return [str(one) for one in verify_journals(self.config.settings, None) if not one.intact]

    def story(self, incident: str) -> str:
        """The incident's journal for people: one line per event."""
        lines = [
            f"{one.seq} {one.at[11:23]} {one.kind} {one.step} {one.actor} {one.epoch or ''} "
            f"{one.data.get('outcome') or one.data.get('phase') or ''} {one.data.get('detail') or ''}"
            for one in self.store.events(incident)
        ]
        return "\n".join(lines)

    # ------------------------------------------------------------ the hosts, seen past irflow

    def isolation(self, host: LabHost) -> Isolation:
        """What the kernel of a host holds."""
        script = f"cat {EPOCH_FILE} 2>/dev/null || echo 0; nft -j list ruleset"
        epoch, ruleset = self.lab.exec(host, ["sh", "-c", script]).stdout.decode().splitlines()
        ours = [one for one in json.loads(ruleset)["nftables"] if next(iter(one.values())).get("table") == "irflow"]
        armed = [one["set"] for one in ours if "set" in one and one["set"]["name"] == "armed"]
        elements = [each["elem"] for one in armed for each in one.get("elem", ())]
        return Isolation(
            tables=len(armed),
            kinds=tuple(sorted({one["comment"].split()[0] for one in elements})),
            left_s=min((one["expires"] for one in elements), default=0),
            epoch=int(epoch.split()[0]),
        )

    def dark(self, host: LabHost) -> bool:
        """Whether the attacker gets no answer at all."""
        return vantage.look(self.lab, host, "attacker", timeout_s=0.3).dark

    def lets_responder_in(self, host: LabHost) -> bool:
        """Whether a new login of the responder works."""
        argv = [*vantage.ssh_argv(self.lab, host, "responder"), "true"]
        return self.lab.run_from("responder", argv, timeout_s=10).returncode == 0


@contextmanager
def site(home: Path, lab: Lab, **settings: object) -> Iterator[Site]:
    """An installation around a lab. settings: lines of irflow.yaml."""
    installation = install(home, lab, settings=dict(settings))
    config = load(home)
    with open_store(config.settings) as store:
        yield Site(lab, config, store, installation)


def until(done: Callable[[], object], within_s: float, what: str | Callable[[], str]) -> None:
    """Wait for something to become true. Raises AssertionError saying what it was; a function is asked only then."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if done():
            return
        time.sleep(0.05)
    assert done(), f"not within {within_s:g} s: {what if isinstance(what, str) else what()}"
