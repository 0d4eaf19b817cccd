"""`host.release`: bring an isolated host back, exactly as it was, and prove it from both sides."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.actions._isolation import FIRST_LOOK_S, KIND, look, mutate, together
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.model import Json

_RESTORED = {
    "identical": "as read just before the cut, byte for byte",
    "changed_meanwhile": "somebody else changed the rules meanwhile; ours are gone",
    "nothing": "nothing of ours was there",
}


class ReleaseParams(Params):
    """host: inventory name."""

    host: str


class HostRelease(Action[ReleaseParams]):
    """Take an isolation back. Always needs a person (DESIGN rule 9): nothing else may bring a host back."""

    name: ClassVar[str] = "host.release"
    summary: ClassVar[str] = "Bring an isolated host back, exactly as it was"
    Params: ClassVar[type[Any]] = ReleaseParams
    needs_person: ClassVar[bool] = True
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = (
        "what reached the host meanwhile cannot be taken back; cut it off again with host.isolate"
    )

    def observe(self, params: ReleaseParams, context: Context) -> dict[str, Json]:
        """What is in force, and how the host answers the responder."""
        report, seen = together(lambda: look(context), context, FIRST_LOOK_S)
        return {
            **report.to_facts(),
            "remains": report.remains,
            "probe": seen.answer,
            "probe_before_cut": _probe_before_cut(context),
        }

    def plan(self, params: ReleaseParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing when nothing of ours is there, also no file that would cut the host off again after a boot."""
        if seen["state"] == "absent" and not seen["remains"]:
            return ()
        return (Change(f"take the isolation of {params.host} back", {"state": seen["state"], "spec": seen["spec"]}),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Delete our objects and compare the rest with what was read before the cut."""
        report = mutate(context, "undo")
        return {"was": report.raw.get("was", ""), "restored": report.raw.get("restored", "")}

    def verify(
        self, params: ReleaseParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Nothing of ours is left, seen over a new connection, and the host answers as it did before the cut."""
        report, after = together(lambda: look(context, fresh=True), context, FIRST_LOOK_S)
        gone = report.state == "absent" and not report.remains
        restored = str(applied[0].get("restored", "")) if applied else "nothing"
        before = str(seen.get("probe_before_cut") or "")
        answers = after.answer != "silent" or before == "silent"
        now = f"{after.answer}, before the cut {before or 'unknown'}"
        checks = (
            Check("isolation is gone", gone, str(seen["state"]), f"{report.state}{', files remain' * report.remains}"),
            Check("the host answers again", answers, str(seen["probe"]), now),
            Check("rules of the host", restored in _RESTORED, "", _RESTORED.get(restored, restored or "unknown")),
        )
        facts: dict[str, Json] = {**report.to_facts(), "restored": restored, "probe_after": after.answer}
        return Proof(checks, facts, ended_leases=(KIND,) if gone else ())


def _probe_before_cut(context: Context) -> str:
    """How the host answered before it was cut off, as the journal has it; empty when it does not know."""
    for step in context.status.steps.values():
        found = step.outcome.get("facts", {}).get("probe_before")
        if step.target == context.the_host().name and found:
            return str(found)
    return ""
