"""`evidence.collect`: fetch evidence from a host with the same hash on both ends and a custody entry."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from irflow.actions._taking import Order, collect, read_back
from irflow.core.action import Action, Change, Context, Params, Proof
from irflow.core.model import Json

SCRIPT = "evidence.sh"

# DESIGN rule 12: at most 0.3 s before the cut. Seconds the script gives its commands, and the most it may send.
_SECONDS = {"snapshot": "0.25", "volatile": "20"}
# Wall clock for the call, connecting included: a host whose own commands hang must not put off its cut.
_CALL_S = {"snapshot": 10.0, "volatile": 60.0}
_MOST_BYTES = {"snapshot": 8 << 20, "volatile": 128 << 20}
_ENDING = {"snapshot": "txt", "volatile": "tar.gz"}
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
        args = (profile, "--seconds", _SECONDS[profile])
        order = Order(SCRIPT, args, profile, _ENDING[profile], _WHAT[profile], _CALL_S[profile], _MOST_BYTES[profile])
        return collect(context, order)

    def verify(
        self, params: CollectParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Read it back from the store: it must hash as the host said."""
        checks = tuple(read_back(one, context) for one in applied)
        entries = [one["entry"] for one in applied]
        seconds = sum(one["seconds"] for one in applied)
        return Proof(checks, {"evidence": entries, "profile": params.profile, "seconds": seconds})
