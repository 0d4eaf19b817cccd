"""Take one piece of evidence from a host: the same hash on both ends, kept, and on record at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from irflow.actions._custody import custody, item_name
from irflow.actions._remote import HINTS, fields
from irflow.core.action import Check, Context
from irflow.core.errors import IrflowError, RemoteFailed
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json


@dataclass(frozen=True)
class Order:
    """What to fetch: `script args` writes it to standard output and ends standard error with `sha256=... clock=...`.

    name: part of the item's name. ending: of its file. what: for people. most: bytes; more is an error.
    """

    script: str
    args: tuple[str, ...]
    name: str
    ending: str
    what: str
    timeout_s: float
    most: int


@dataclass(frozen=True)
class Taken:
    """What was fetched. entry: its custody entry. content: as it arrived. said: the last line of standard error."""

    entry: dict[str, Json]
    content: bytes
    said: Mapping[str, str]


def take(context: Context, order: Order, facts: Mapping[str, Json] | None = None) -> Taken:
    """Fetch it and keep it. facts: more for the custody entry. The entry is not in the journal yet.

    Raises RemoteFailed with what the script said, IrflowError when what arrived is not what was sent; then nothing is
    kept. And whatever core.ports.Shell.stream raises.
    """
    clock, host, pieces = context.ports.clock, context.the_host(), bytearray()
    started, begun = clock.now(), clock.monotonic()
    done = context.ports.shell.stream(
        host, order.script, order.args, sink=pieces.extend, timeout_s=min(order.timeout_s, context.left()),
        max_bytes=order.most,
    )  # fmt: skip
    received, took = clock.now(), clock.monotonic() - begun
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
    if done.status != 0:
        raise RemoteFailed(
            f"{order.script} {order.args[0]} ended with status {done.status}: {lines[-1][:500]}", where=host.name,
            hint=HINTS.get(done.status, ""), status=done.status,
        )  # fmt: skip
    said, content = fields(lines[-1].replace(" ", "\n")), bytes(pieces)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != said.get("sha256"):
        raise IrflowError(
            f"{len(content)} bytes with SHA-256 {sha256} arrived, {said.get('sha256') or 'nothing'} was sent",
            where=host.name, hint="Nothing was kept; take it again",
        )  # fmt: skip
    stored = context.ports.evidence.put(
        context.incident.id, item_name(context, order.name, started, order.ending), content
    )
    entry = custody(context, list(order.args), started, order.script) | {
        "name": stored.path.rpartition("/")[2], "path": stored.path, "sha256": stored.sha256, "bytes": stored.bytes,
        "what": order.what, "clock_offset_s": _offset(said.get("clock", ""), received.timestamp()),
        "clock_uncertainty_s": round(took, 3), "missing": several(said, "missing"),
        **({"cut": several(said, "cut")} if "cut" in said else {}), **(facts or {}),
    }  # fmt: skip
    return Taken(entry, content, said)


def collect(context: Context, order: Order) -> dict[str, Json]:
    """Take it for a proof that brings the entry along -> entry, sent_sha256, seconds. Raises what take raises."""
    taken = take(context, order, {"profile": order.name})
    return {"entry": taken.entry, "sent_sha256": taken.said["sha256"], "seconds": taken.entry["clock_uncertainty_s"]}


def read_back(collected: dict[str, Json], context: Context) -> Check:
    """Whether what is in the store hashes as the host said."""
    kept = hashlib.sha256(context.ports.evidence.get(collected["entry"]["path"])).hexdigest()
    sent = collected["sent_sha256"]
    return Check("same SHA-256 on the host and in the store", kept == sent, sent, kept)


def several(said: Mapping[str, str], key: str) -> list[str]:
    """The values of `key=one,other`; none when it was not said."""
    return [one for one in said.get(key, "").split(",") if one]


def record(context: Context, entry: dict[str, Json]) -> None:
    """Put a custody entry into the journal now: what is done next destroys what it speaks of.

    Later ones come with the proof (`facts["evidence"]`); an entry must go one of the two ways, not both.
    """
    draft = Draft(
        Kind.EVIDENCE_TAKEN, context.actor, entry, context.step.key, context.the_host().name, epoch=context.epoch
    )
    context.ports.store.transact(lambda tx: tx.append(context.incident.id, draft))


def _offset(clock: str, now: float) -> float | None:
    """By how many seconds the host's clock is ahead of ours; None when it did not say a time."""
    try:
        told = float(clock)
    except ValueError:
        return None
    return round(told - now, 3) if 0 < told < 1e12 else None
