"""Break-glass: runs while the journal's database is gone, each with a chain of its own, and joining them afterwards.

Such a run needs neither Prefect, web, responder nor database: the configuration, the SSH keys and the hosts are enough.
Its journal lies in HOME/state/breakglass; a responder joins it at its next start, or a person does.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ulid import ULID

from irflow.adapters.anchors import open_anchors
from irflow.config import Settings
from irflow.core.errors import CheckFailed, IrflowError, JournalError, Refused, ServiceMissing, UsageError
from irflow.core.incident import Incident
from irflow.core.joining import export_state
from irflow.core.journal import Draft, Event, Kind, verify
from irflow.core.model import Json
from irflow.core.ports import Anchors, Store, Transaction
from irflow.core.status import fold
from irflow.wiring import Configuration, Runtime, open_runtime, open_store

log = logging.getLogger(__name__)


class Running(Refused):
    """A local run has not come to its end."""


@dataclass(frozen=True)
class Glass:
    """A local run's journal. name: what people say, also its incident's number and its phase's name."""

    path: Path
    name: str

    @property
    def phase(self) -> str:
        """The phase of the run; no other incident has one of that name."""
        return self.name.lower()

    @property
    def joined(self) -> Path:
        """Says to which incident it was joined."""
        return self.path.with_suffix(".joined")


def folder(settings: Settings) -> Path:
    """Where the journals of local runs lie."""
    return settings.state / "breakglass"


@contextmanager
def runtime(config: Configuration, *, local: bool) -> Iterator[tuple[Runtime, Glass | None]]:
    """Everything wired up over the journal; over a new one of its own where that is out of reach and the run is local.

    Raises like open_store when it is out of reach and the run is not local.
    """
    try:
        with open_store(config.settings):
            pass
    except (ServiceMissing, JournalError) as error:
        if not local:
            hint = f"{error.hint}; or run it here and now, with a journal of its own: --local"
            raise type(error)(error.message, where=error.where, hint=hint) from error
    else:
        with open_runtime(config, process="cli") as wired:
            yield wired, None
        return
    name = f"LOCAL-{str(ULID())[:13]}"
    glass = Glass(folder(config.settings) / f"{name}.db", name)
    glass.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mine = replace(config, settings=_local(config.settings, glass))
    begun = True
    with _held(glass, wait=True):
        try:
            with open_runtime(mine, process="cli") as wired:
                try:
                    yield wired, glass
                finally:
                    begun = bool(wired.store.incidents())
        finally:
            if not begun:  # a dry run, or a refusal
                for path in glass.path.parent.glob(f"{glass.name}.*"):
                    path.unlink()


def _local(settings: Settings, glass: Glass) -> Settings:
    return settings.model_copy(update={"database_url": f"sqlite:///{glass.path}"})


@contextmanager
def _held(glass: Glass, *, wait: bool) -> Iterator[None]:
    """The right to write to a local journal, or to join it. Raises Running while a run has it."""
    file = os.open(glass.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Running(f"{glass.name} is still running", hint="Wait for its end, then join it") from None
    finally:
        os.close(file)


def waiting(settings: Settings) -> tuple[Glass, ...]:
    """The local journals that no incident has joined yet, oldest first."""
    every = (Glass(path, path.stem) for path in sorted(folder(settings).glob("LOCAL-*.db")))
    return tuple(one for one in every if not one.joined.exists())


def find(settings: Settings, text: str) -> Glass:
    """The local journal of this name or path. Raises UsageError."""
    path = Path(text) if text.endswith(".db") else folder(settings) / f"{text.upper()}.db"
    if not path.is_file():
        names = ", ".join(one.name for one in waiting(settings)) or "none"
        raise UsageError(f"no local journal {text}", hint=f"Waiting to be joined: {names}")
    return Glass(path, path.stem)


def mean(wired: Runtime, glass: Glass, incident: Incident, meant_for: str | None) -> None:
    """Write down which incident a local run is about, where a person said so; it is joined to that one."""
    if meant_for:
        data: dict[str, Json] = {"text": f"meant for {meant_for}", "meant_for": meant_for, "operator": glass.name}
        wired.store.transact(lambda tx: tx.append(incident.id, Draft(Kind.NOTE, wired.engine.actor, data)))


def seal(wired: Runtime) -> None:
    """Sign the end of a local run, so that what is joined later is what was written then."""
    for incident, _ in wired.store.incidents():
        head = wired.store.events(incident.id)[-1]
        _anchors(wired.settings).sign(incident.id, head.seq, head.hash, head.at)


def _anchors(settings: Settings) -> Anchors:
    """Apart from those of the journal proper, which has no such chains."""
    return open_anchors(settings.state, folder(settings) / "anchors")


def join(settings: Settings, store: Store, glass: Glass, incident: str | None, actor: str) -> Incident:
    """Make a local run part of an incident: one event with the head of its chain, and its state.

    incident: number or ULID; None for the one it was meant for, else one of its own. Joining twice changes nothing.
    Raises CheckFailed when the local chain is damaged, Refused while it runs or when the incident is closed.
    """
    with _held(glass, wait=False):
        local, events = _read(settings, glass)
        wanted = incident or _meant_for(events)
        target = store.find_incident(wanted) if wanted else store.find_incident(local.id)
        if wanted and target is None and incident is None:
            target = store.find_incident(local.id)
        if incident and target is None:
            raise UsageError(f"no incident {incident}", hint="List them: irflow incidents list")
        found = store.transact(lambda tx: _append(tx, local, events, target, glass, actor))
        glass.joined.write_text(f"{found.number}\n")
        return found


def _read(settings: Settings, glass: Glass) -> tuple[Incident, list[Event]]:
    with open_store(_local(settings, glass)) as local:
        ((incident, _),) = local.incidents(limit=2) or ((None, False),)
        events = local.events(incident.id) if incident else []
    if incident is None:
        raise UsageError(f"{glass.name} holds nothing: the run was killed before it began", hint=f"Delete {glass.path}")
    checked = verify(incident.id, events, _anchors(settings).load(incident.id))
    if not checked.intact:
        raise CheckFailed(
            f"{glass.name} is damaged: {checked.findings[0].detail}", where=str(glass.path),
            hint="Nothing was joined; keep the file as evidence",
        )  # fmt: skip
    return incident, events


def _meant_for(events: list[Event]) -> str | None:
    return next((str(one.data["meant_for"]) for one in events if one.data.get("meant_for")), None)


def _append(
    tx: Transaction, local: Incident, events: list[Event], target: Incident | None, glass: Glass, actor: str
) -> Incident:
    head, state = events[-1], export_state(fold(events))
    found = target or tx.open_incident(local.model_copy(update={"number": ""}), actor)
    status = fold(tx.events(found.id))
    if head.hash in status.joined:
        return found
    if not status.open:
        raise Refused(
            f"{found.number} is closed", hint=f"Join it to another: irflow incidents join {glass.name} NUMBER"
        )
    data: dict[str, Json] = {
        "journal": glass.name, "incident": local.id, "seq": head.seq, "hash": head.hash, "state": state,
    }  # fmt: skip
    tx.append(found.id, Draft(Kind.CHAIN_JOINED, actor, data))
    joined = fold(tx.events(found.id)).incident
    tx.index_incident(joined, closed=False)
    return joined


def join_all(settings: Settings, store: Store, actor: str, *, given_up: set[str]) -> None:
    """Join what local runs left. What cannot be joined is told once, and left for a person.

    given_up: names of those; grows.
    """
    for glass in waiting(settings):
        if glass.name in given_up:
            continue
        try:
            found = join(settings, store, glass, None, actor)
            log.warning("the local run %s was joined to %s", glass.name, found.number)
        except Running:
            continue
        except IrflowError as error:
            given_up.add(glass.name)
            log.error("%s was not joined: %s; by hand: irflow incidents join %s", glass.name, error, glass.name)
