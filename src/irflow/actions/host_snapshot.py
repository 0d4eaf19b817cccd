"""`host.snapshot`: full evidence of a host for the record: what is volatile first, then its state and its logs."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from irflow.actions._taking import Order, collect, read_back
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import IrflowError
from irflow.core.model import Json

VOLATILE, STATE = "volatile", "full"

_WHAT = {
    VOLATILE: "volatile evidence in the order of RFC 3227",
    STATE: "packages, accounts, schedules, units, keys, /etc, changed files, programs' hashes and logs",
}
# Of the whole time box: what evidence.collect gives itself, but never more than a third.
_VOLATILE_S = 20
_VOLATILE_MOST = 128 << 20
# Connecting, packing and sending come after the host's time box; a line of 2 MB/s is the slowest honest one.
_AROUND_S, _BYTES_PER_S = 45.0, 2_000_000
# Packing, the listings' own tail and a log that grew in between, on top of the files' cap.
_SLACK = 8 << 20


class SnapshotParams(Params):
    """host: inventory name. seconds: time box on the host. max_mb: of what is read there, before packing, in MiB."""

    host: str
    seconds: int = Field(default=120, ge=6, le=600)
    max_mb: int = Field(default=256, ge=1, le=1024)


def shares(seconds: int) -> tuple[int, int]:
    """The time box in two: seconds for what is volatile, seconds for the rest."""
    volatile = min(_VOLATILE_S, seconds // 3)
    return volatile, seconds - volatile


class HostSnapshot(Action[SnapshotParams]):
    """Take all that a host can tell, through its memory alone; parts that are missing or cut are named."""

    name: ClassVar[str] = "host.snapshot"
    summary: ClassVar[str] = "Take full evidence of a host for the record, hashed on both ends"
    Params: ClassVar[type[Any]] = SnapshotParams
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "evidence that was taken is kept"

    def observe(self, params: SnapshotParams, context: Context) -> dict[str, Json]:
        """Nothing to look at: evidence is what it is when it is taken."""
        return {}

    def plan(self, params: SnapshotParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Two archives, the more volatile one first."""
        volatile, state = shares(params.seconds)
        at_most = f"in at most {volatile} s"
        return (
            Change(f"take {_WHAT[VOLATILE]} from {params.host} {at_most}",
                   {"host": params.host, "profile": VOLATILE, "seconds": volatile}),
            Change(f"take {_WHAT[STATE]} from {params.host} in at most {state} s, {params.max_mb} MiB",
                   {"host": params.host, "profile": STATE, "seconds": state, "max_mb": params.max_mb}),
        )  # fmt: skip

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Fetch one archive. Of one that failed, the reason: what the other one holds is kept and on record."""
        try:
            return collect(context, archive(change.data))
        except IrflowError as error:
            return {"failed": str(error), "profile": change.data["profile"], "seconds": 0.0}

    def verify(
        self, params: SnapshotParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Read both back from the store: they must hash as the host said."""
        checks = tuple(_check(one, context) for one in applied)
        entries = [one["entry"] for one in applied if "entry" in one]
        incomplete = sorted({part for one in entries for part in [*one["missing"], *one.get("cut", [])]})
        seconds = round(sum(one["seconds"] for one in applied), 3)
        return Proof(checks, {"evidence": entries, "incomplete": incomplete, "seconds": seconds})


def archive(data: dict[str, Json]) -> Order:
    """What to call for a change of plan. data: profile, seconds, for the state max_mb."""
    profile, seconds = str(data["profile"]), int(data["seconds"])
    if profile == VOLATILE:
        # As evidence.collect calls it: one command may use a quarter of the time past its end.
        bounds = ("volatile", "--seconds", str(seconds))
        return Order("evidence.sh", bounds, profile, "tar.gz", _WHAT[profile], seconds * 1.5 + 30, _VOLATILE_MOST)
    most = int(data["max_mb"]) << 20
    args = ("--seconds", str(seconds), "--max-mb", str(data["max_mb"]))
    wall = seconds + _AROUND_S + most / _BYTES_PER_S
    return Order("snapshot.sh", args, profile, "tar.gz", _WHAT[profile], wall, most + _SLACK)


def _check(applied: dict[str, Json], context: Context) -> Check:
    if "failed" in applied:
        name = f"the {applied['profile']} archive was taken"
        return Check(name, False, "an archive", str(applied["failed"])[:500])
    return read_back(applied, context)
