"""Fetching one archive of evidence: hashed on the host and here, kept, with a custody entry."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from irflow.actions._custody import custody, item_name
from irflow.actions._remote import call, fields
from irflow.core.action import Check, Context
from irflow.core.errors import IrflowError
from irflow.core.model import Json


@dataclass(frozen=True)
class Archive:
    """What to fetch and how far it may go.

    script, args: of remote/. profile: short name. what: in words. ending: of the file. seconds: wall clock for the
    call, connecting included: a host whose own commands hang must not hold up what comes next. most_bytes: of the
    archive as sent.
    """

    script: str
    args: tuple[str, ...]
    profile: str
    what: str
    ending: str
    seconds: float
    most_bytes: int


def fetch(archive: Archive, context: Context) -> dict[str, Json]:
    """Fetch it, compare the hashes, keep it -> entry, sent_sha256, seconds.

    Raises IrflowError when what arrived is not what was sent, and whatever call raises; then nothing is kept.
    """
    clock, args = context.ports.clock, list(archive.args)
    started, begun = clock.now(), clock.monotonic()
    done = call(context, archive.script, args, max_output=archive.most_bytes, timeout_s=archive.seconds)
    received, took = clock.now(), clock.monotonic() - begun
    said = last_line(done.stderr)
    sha256 = hashlib.sha256(done.stdout).hexdigest()
    if sha256 != said.get("sha256"):
        raise IrflowError(
            f"{len(done.stdout)} bytes with SHA-256 {sha256} arrived, {said.get('sha256') or 'nothing'} was sent",
            where=context.the_host().name, hint="Nothing was kept; collect it again",
        )  # fmt: skip
    stored = context.ports.evidence.put(
        context.incident.id, item_name(context, archive.profile, started, archive.ending), done.stdout
    )
    entry = custody(context, args, started, archive.script) | {
        "name": stored.path.rpartition("/")[2], "path": stored.path, "sha256": stored.sha256,
        "bytes": stored.bytes, "profile": archive.profile, "what": archive.what,
        "clock_offset_s": _offset(said.get("clock", ""), received.timestamp()),
        "clock_uncertainty_s": round(took, 3), "missing": several(said, "missing"),
    }  # fmt: skip
    if "cut" in said:
        entry["cut"] = several(said, "cut")
    return {"entry": entry, "sent_sha256": sha256, "seconds": round(took, 3)}


def read_back(applied: dict[str, Json], context: Context) -> Check:
    """Whether what is in the store hashes as the host said."""
    kept = hashlib.sha256(context.ports.evidence.get(applied["entry"]["path"])).hexdigest()
    sent = applied["sent_sha256"]
    return Check("same SHA-256 on the host and in the store", kept == sent, sent, kept)


def last_line(stderr: bytes) -> dict[str, str]:
    """What the script says of what it sent, from its last line: `sha256=... clock=... missing=...`."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return fields(lines[-1].replace(" ", "\n")) if lines else {}


def several(said: dict[str, str], key: str) -> list[str]:
    """The values of `key=one,other`; none when it was not said."""
    return [one for one in said.get(key, "").split(",") if one]


def _offset(clock: str, now: float) -> float | None:
    """By how many seconds the host's clock is ahead of ours; None when it did not say a time."""
    try:
        told = float(clock)
    except ValueError:
        return None
    return round(told - now, 3) if 0 < told < 1e12 else None
