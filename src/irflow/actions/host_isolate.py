"""`host.isolate`: cut a host off the network, leaving only the responder's way in; proved from both sides."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from irflow.actions import _isolation_hook as by_hook
from irflow.actions._isolation import (
    FIRST_LOOK_S,
    KIND,
    SSH_IS_DEAD,
    Probed,
    Report,
    arguments,
    change,
    drifted,
    look,
    mutate,
    patience,
    silence,
    together,
    wanted,
)
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import HostError, OutcomeUnknown
from irflow.core.model import Json, parse_duration, to_text

_WAY_IN = "responder gets in over a new connection"


def _whole_seconds(value: object) -> float:
    return float(round(parse_duration(value).total_seconds()))


class IsolateParams(Params):
    """host: inventory name. lease: seconds the isolation holds if nobody renews it, or `8h`.

    allow: flows to keep open besides the inventory's own for the host, `udp:10.0.0.53:53`.
    deadman: seconds after which the kernel opens the host again unless the cut was confirmed.
    """

    host: str
    lease: Annotated[float, BeforeValidator(_whole_seconds)] = Field(default=28800.0, ge=60)
    allow: tuple[str, ...] = ()
    deadman: int = Field(default=60, ge=5, le=3600)


class HostIsolate(Action[IsolateParams]):
    """Cut a host off, IPv4 and IPv6, connections included; the way back is in the kernel from the first moment.

    The rules come from the inventory (`management`, `allow`); nothing is kept open that is not named there or in the
    parameters, but the responder's own session. Proved by two things together: a new SSH connection that works and
    confirms, and a forbidden probe that is not answered any more.
    Where SSH cannot be used and irflow.yaml names a hook for the host, the hook cuts it off instead; `seen` says so.
    """

    name: ClassVar[str] = "host.isolate"
    summary: ClassVar[str] = "Cut a host off the network, keeping the responder's own way in"
    Params: ClassVar[type[Any]] = IsolateParams
    lease: ClassVar[str | None] = KIND

    def observe(self, params: IsolateParams, context: Context) -> dict[str, Json]:
        """What is in force, what is wanted, and how the host answers the responder now; by the hook if SSH is dead."""
        data = wanted(context.the_host(), int(params.lease), params.deadman, params.allow)
        holder = by_hook.holder(context)
        if holder:
            return by_hook.observe(context, holder, params.lease, "it is held by this hook")
        try:
            report, seen = together(lambda: look(context), context, FIRST_LOOK_S)
        except SSH_IS_DEAD as error:
            hook = by_hook.find(context)
            if hook is None or _holds(context):
                raise
            return by_hook.observe(context, hook.name, params.lease, error.message)
        known = context.status.step(context.step.key).outcome.get("facts", {})
        return {
            **report.to_facts(), "wanted": data, "probe": seen.answer, "probe_s": round(seen.seconds, 4),
            "rules_known": known.get("rules", ""), "boot_known": known.get("boot", ""),
            "probe_before_cut": known.get("probe_before", ""),
        }  # fmt: skip

    def plan(self, params: IsolateParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing while what is wanted is in force, unchanged, and for at least half the lease."""
        if "hook" in seen:
            return by_hook.plan(params.host, seen)
        data = seen["wanted"]
        untouched = seen["rules_known"] in ("", seen["rules"]) and seen["boot_known"] in ("", seen["boot"])
        as_wanted = seen["state"] == "confirmed" and seen["spec"] == data["spec"]
        if as_wanted and untouched and seen["left_s"] >= params.lease / 2:
            return ()
        return (change(data, params.host),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Load the rules, armed with the dead-man; one kernel transaction."""
        if "hook" in change.data:
            return by_hook.apply(change, context)
        report = mutate(context, "apply", *arguments(change.data))
        return {"state": report.state, "backend": report.backend, "was": report.raw.get("was", ""), "data": change.data}

    def verify(
        self, params: IsolateParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Confirm over a new connection while the forbidden probe is out; both must say that the cut holds."""
        if "hook" in seen:
            return by_hook.verify(context, seen, applied)
        before = Probed(seen["probe"], seen["probe_s"])
        try:
            report, after = together(lambda: self._enter(params, seen, applied, context), context, patience(before))
        except OutcomeUnknown:
            raise
        except HostError as error:
            return self._no_way_in(params, error)
        # Counted after the probe: the confirmation's own counter may be older than it.
        counted = look(context).dropped if before.answer == "silent" else report.dropped
        way_in = Check(_WAY_IN, report.state == "confirmed", str(seen["state"]), report.state)
        facts: dict[str, Json] = {
            "probe_before": seen["probe_before_cut"] or before.answer, "probe_after": after.answer,
            "dropped_packets": counted,
        }  # fmt: skip
        return self._proof(params, report, (way_in, *silence(before.answer, after.answer, counted)), context, facts)

    def _enter(
        self, params: IsolateParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Report:
        """Come in anew: to confirm what was applied, or only to look when nothing had to be."""
        if applied:
            return self._confirm(params, seen["wanted"], context)
        return look(context, fresh=True)

    def _confirm(self, params: IsolateParams, data: dict[str, Json], context: Context) -> Report:
        return mutate(context, "confirm", "--ttl", str(int(params.lease)), "--spec", data["spec"], fresh=True)

    def _no_way_in(self, params: IsolateParams, error: HostError) -> Proof:
        back = f"not confirmed, so the kernel opens {params.host} again within {params.deadman} s of the cut"
        return Proof((Check(_WAY_IN, False, "", str(error)),), {"state": "unconfirmed", "reverts": back})

    def _proof(
        self, params: IsolateParams, report: Report, checks: tuple[Check, ...], context: Context, facts: dict[str, Json]
    ) -> Proof:
        """A proof; with a lease only when every check passed, as long as the kernel holds it."""
        until = context.ports.clock.now() + timedelta(seconds=report.left)
        lease: dict[str, Json] = {"kind": KIND, "until": to_text(until), "seconds": params.lease}
        proof = Proof(checks, {**report.to_facts(), **facts})
        held = report.state == "confirmed"  # also when a check failed: what is in force must be watched and released
        return Proof(proof.checks, proof.facts, (lease,)) if held else proof

    def undo(self, change: Change, context: Context) -> Proof:
        """Take our objects away and show that nothing else moved; harmless when nothing was applied."""
        if "hook" in change.data:
            return by_hook.undo(change, context)
        report = mutate(context, "undo")
        again, after = together(lambda: look(context, fresh=True), context, FIRST_LOOK_S)
        gone = again.state == "absent" and not again.remains
        return Proof(
            (
                Check("isolation is gone", gone, report.raw.get("was", ""), again.state),
                Check(
                    "the rest of the rules was left alone", report.raw.get("restored") != "", "",
                    report.raw.get("restored", ""),
                ),
            ),
            {**again.to_facts(), "restored": report.raw.get("restored", ""), "probe_after": after.answer},
            ended_leases=(KIND,),
        )  # fmt: skip

    def renew(self, params: IsolateParams, context: Context) -> Proof:
        """Prolong the lease; where the rules are gone or were changed, cut again, confirm, and say `drift`."""
        holder = by_hook.holder(context)
        if holder:
            return by_hook.renew(context, holder, params.lease)
        data = wanted(context.the_host(), int(params.lease), params.deadman, params.allow)
        known = context.status.step(context.step.key).outcome.get("facts", {})
        args = [*arguments(data), "--ttl", str(int(params.lease))]
        report = mutate(context, "renew", *args, *(("--rules", known["rules"]) if known.get("rules") else ()))
        facts: dict[str, Json] = drifted(report, str(known.get("boot", "")))
        if report.raw.get("renewed") == "armed":
            try:
                report = self._confirm(params, data, context)
            except OutcomeUnknown:
                raise
            except HostError as error:
                failed = self._no_way_in(params, error)
                return Proof(failed.checks, {**failed.facts, **facts})
        held = Check("isolation is in force", report.state == "confirmed", str(facts.get("drift", "")), report.state)
        return self._proof(params, report, (held,), context, facts)


def _holds(context: Context) -> bool:
    """Whether this step holds the host by rules of its kernel: then silence says nothing about them, so no cable is
    pulled; a new run of the runbook may.
    """
    leases = (context.status.leases, context.status.expired)
    place = KIND, context.the_host().name
    return any(place in one and one[place].step == context.step.key for one in leases)
