"""`evidence.collect`: fetch evidence from a host with the same hash on both ends and a custody entry."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar, Literal

from irflow.actions._custody import custody, item_name
from irflow.actions._remote import call, fields
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import IrflowError
from irflow.core.model import Json

SCRIPT = "evidence.sh"

# DESIGN rule 12: at most 0.3 s before the cut. Seconds the script gives its commands, and the most it may send.
_SECONDS = {"snapshot": "0.25", "volatile": "20"}
# Wall clock for the call, connecting included: a host whose own commands hang must not put off its cut.
_CALL_S = {"snapshot": 10.0, "volatile": 60.0}
_MOST_BYTES = {"snapshot": 8 << 20, "volatile": 128 << 20}
_ENDING = {"snapshot": "tar", "volatile": "tar.gz"}
_WHAT = {
    "snapshot": "sockets and processes before the cut",
    "volatile": "volatile evidence in the order of RFC 3227",
}


class CollectParams(Params):
    """host: inventory name. profile: `snapshot` (sockets and processes, at most 0.3 s) or `volatile` (everything)."""

    host: str
    profile: Literal["snapshot", "volatile"] = "volatile"


class EvidenceCollect(Action[CollectParams]):
    """Collect evidence without touching a disk of the host; what arrived must hash as what was sent."""

    name: ClassVar[str] = "evidence.collect"
    summary: ClassVar[str] = "Collect evidence, hashed on both ends, with a custody entry"
    Params: ClassVar[type[Any]] = CollectParams
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "evidence that was taken is kept"

    def observe(self, params: CollectParams, context: Context) -> dict[str, Json]:
        """Nothing to look at: evidence is what it is when it is taken."""
        return {}

    def plan(self, params: CollectParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One item per run."""
        what = f"take {_WHAT[params.profile]} from {params.host}"
        return (Change(what, {"host": params.host, "profile": params.profile}),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Fetch it, compare the hashes, keep it. Raises IrflowError when what arrived is not what was sent."""
        profile = str(change.data["profile"])
        clock, args = context.ports.clock, [profile, "--seconds", _SECONDS[profile]]
        started, begun = clock.now(), clock.monotonic()
        done = call(context, SCRIPT, args, max_output=_MOST_BYTES[profile], timeout_s=_CALL_S[profile])
        received, took = clock.now(), clock.monotonic() - begun
        said = _last_line(done.stderr)
        sha256 = hashlib.sha256(done.stdout).hexdigest()
        if sha256 != said.get("sha256"):
            raise IrflowError(
                f"{len(done.stdout)} bytes with SHA-256 {sha256} arrived, {said.get('sha256') or 'nothing'} was sent",
                where=context.the_host().name,
                hint="Nothing was kept; collect it again",
            )  # fmt: skip
        stored = context.ports.evidence.put(
            context.incident.id, item_name(context, profile, started, _ENDING[profile]), done.stdout
        )
        entry = custody(context, args, started, SCRIPT) | {
            "name": stored.path.rpartition("/")[2], "path": stored.path, "sha256": stored.sha256,
            "bytes": stored.bytes, "profile": profile, "what": _WHAT[profile],
            "clock_offset_s": _offset(said.get("clock", ""), received.timestamp()),
            "clock_uncertainty_s": round(took, 3),
            "missing": [one for one in said.get("missing", "").split(",") if one],
        }  # fmt: skip
        return {"entry": entry, "sent_sha256": sha256, "seconds": round(took, 3)}

    def verify(
        self, params: CollectParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Read it back from the store: it must hash as the host said."""
        checks, entries = [], []
        for one in applied:
            entry = one["entry"]
            kept = hashlib.sha256(context.ports.evidence.get(entry["path"])).hexdigest()
            checks.append(Check("same SHA-256 on the host and in the store", kept == one["sent_sha256"],
                                one["sent_sha256"], kept))  # fmt: skip
            entries.append(entry)
        seconds = sum(one["seconds"] for one in applied)
        return Proof(tuple(checks), {"evidence": entries, "profile": params.profile, "seconds": seconds})


def _offset(clock: str, now: float) -> float | None:
    """By how many seconds the host's clock is ahead of ours; None when it did not say a time."""
    try:
        told = float(clock)
    except ValueError:
        return None
    return round(told - now, 3) if 0 < told < 1e12 else None


def _last_line(stderr: bytes) -> dict[str, str]:
    """What the script says of what it sent, from its last line: `sha256=... clock=... missing=...`."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return fields(lines[-1].replace(" ", "\n")) if lines else {}
