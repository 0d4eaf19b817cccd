"""`host.facts`: the first look at a host in triage; changes nothing."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.actions._remote import call
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.model import Json

SCRIPT = "facts.sh"
_LONGEST = 300
_SINGLE = ("os", "kernel", "hostname")
_LISTS = {
    "session": "sessions", "logged_in": "logged_in", "listener": "listeners", "outbound": "outbound",
    "suspicious": "suspicious",
}  # fmt: skip


class FactsParams(Params):
    """host: inventory name."""

    host: str


class HostFacts(Action[FactsParams]):
    """System, people, listeners, outgoing connections, and what looks wrong: for the classification and the report."""

    name: ClassVar[str] = "host.facts"
    summary: ClassVar[str] = "First look at a host: system, sessions, connections, what looks wrong"
    Params: ClassVar[type[Any]] = FactsParams
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "it only reads"

    def observe(self, params: FactsParams, context: Context) -> dict[str, Json]:
        """The host's answer. An intruder may have chosen what it says, so it stays data."""
        now = context.ports.clock.now().timestamp()
        return read(call(context, SCRIPT, [], max_output=1 << 18).text, now)

    def plan(self, params: FactsParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing to change."""
        return ()

    def verify(
        self, params: FactsParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """The facts are the result; an answer without a system in it is none."""
        return Proof((Check("the host answered", bool(seen["kernel"]), "", f"{seen['os']}, {seen['kernel']}"),), seen)


def read(text: str, now: float) -> dict[str, Json]:
    """The script's key=value lines as facts. now: the responder's clock, Unix time; values are cut to 300 characters.

    Keys that the script does not have are dropped: whatever else an intruder makes it say is no fact.
    """
    facts: dict[str, Json] = {**dict.fromkeys(_SINGLE, ""), "uptime_s": 0, "clock_offset_s": None}
    facts.update({name: [] for name in _LISTS.values()})
    for line in text.splitlines():
        key, _, value = line.partition("=")
        value = value[:_LONGEST].strip()
        if key in _LISTS and value:
            facts[_LISTS[key]].append(value)
        elif key in _SINGLE:
            facts[key] = value
        elif key == "uptime_s" and value.isascii() and value.isdigit():
            facts[key] = int(value[:12])
        elif key == "clock" and value.replace(".", "", 1).isdigit() and value.isascii():
            facts["clock_offset_s"] = round(float(value) - now, 3)
    return facts
