"""`host.release`: bring an isolated host back, exactly as it was, and prove it from both sides."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.actions import _isolation_hook as by_hook
from irflow.actions._isolation import FIRST_LOOK_S, KIND, SSH_IS_DEAD, look, mutate, together
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import HostError
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
    """Take an isolation back, that of a hook first. Always needs a person (DESIGN rule 9): nothing else may."""

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
        held = by_hook.holder(context)
        if held:
            return self._observe_hook(held, context)
        try:
            report, seen = together(lambda: look(context), context, FIRST_LOOK_S)
        except SSH_IS_DEAD as error:
            return self._perhaps_cut_by_hook(error, context)
        return {
            **report.to_facts(),
            "remains": report.remains,
            "probe": seen.answer,
            "probe_before_cut": _probe_before_cut(context),
        }

    def _perhaps_cut_by_hook(self, error: HostError, context: Context) -> dict[str, Json]:
        """SSH is dead: that may be the work of a hook which no lease tells of. Raises the error when it is not."""
        hook = by_hook.find(context)
        if hook is not None:
            seen = self._observe_hook(hook.name, context)
            if seen["state"] == "isolated":
                return seen
        raise error

    def _observe_hook(self, name: str, context: Context) -> dict[str, Json]:
        cut = (KIND, context.the_host().name) in context.status.leases
        standing = by_hook.ask(context, name, "status")
        return {
            "hook": name, "state": standing.state, "rules_too": cut, "answers_before": by_hook.answers_before(context),
            "probe": by_hook.shown(by_hook.knock(context)), "probe_before_cut": _probe_before_cut(context),
        }  # fmt: skip

    def plan(self, params: ReleaseParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing when nothing of ours is there, also no file that would cut the host off again after a boot."""
        changes = []
        if "hook" in seen:
            if seen["state"] != "open":
                data = {"hook": seen["hook"], "answers_before": seen["answers_before"]}
                changes.append(Change(f"open {params.host} by hook {seen['hook']}", data))
            if seen["rules_too"]:
                changes.append(Change(f"take the isolation of {params.host} back", {"state": "unknown", "spec": ""}))
        elif seen["state"] != "absent" or seen["remains"]:
            data = {"state": seen["state"], "spec": seen["spec"]}
            changes.append(Change(f"take the isolation of {params.host} back", data))
        return tuple(changes)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Delete our objects and compare the rest with what was read before the cut; or have the hook open the host."""
        if "hook" in change.data:
            by_hook.ask(context, change.data["hook"], "release")
            by_hook.prove_open(context, change.data["hook"], "isolated", change.data["answers_before"])  # it takes time
            return {"hook": change.data["hook"]}
        report = mutate(context, "undo")
        return {"was": report.raw.get("was", ""), "restored": report.raw.get("restored", "")}

    def verify(
        self, params: ReleaseParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Nothing of ours is left, seen over a new connection, and the host answers as it did before the cut."""
        if "hook" not in seen:
            return self._verify_rules(seen, applied, context)
        proof = by_hook.prove_open(context, seen["hook"], str(seen["state"]), seen["answers_before"])
        if not seen["rules_too"]:
            return proof
        rules = self._verify_rules({**seen, "state": "unknown"}, applied, context)
        ended = (*proof.ended_leases, *rules.ended_leases)
        return Proof((*proof.checks, *rules.checks), {**proof.facts, **rules.facts}, ended_leases=ended)

    def _verify_rules(self, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context) -> Proof:
        report, after = together(lambda: look(context, fresh=True), context, FIRST_LOOK_S)
        gone = report.state == "absent" and not report.remains
        said = [str(one.get("restored", "")) for one in applied if "hook" not in one]
        restored = said[0] if said else "nothing"
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
