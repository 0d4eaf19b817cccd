"""An isolation by a hook, where SSH cannot be used: the switch, hypervisor or cloud cuts, and the responder sees it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from irflow.core.action import Change, Check, Context, Proof
from irflow.core.errors import HookFailed, HostError, IrflowError
from irflow.core.model import Json, from_text, to_text
from irflow.core.ports import Hook

KIND = "isolation by hook"
"""Start of the lease's kind; the hook's name follows, for each holds by itself."""
SETTLE_S = 5.0
"""How long a switch may take to do what it has said."""
_LOOK_S = 0.3
_STATES = ("isolated", "open")


@dataclass(frozen=True)
class Standing:
    """What a hook says. state: isolated or open. until: when it opens the host by itself, None when it never does."""

    state: str
    until: datetime | None = None

    def left_s(self, now: datetime) -> float | None:
        """Seconds until the hook opens the host; None when it never does."""
        return None if self.until is None else (self.until - now).total_seconds()


def kind(name: str) -> str:
    """The kind of a lease that a hook holds."""
    return f"{KIND} {name}"


def holder(context: Context) -> str:
    """Name of the hook that holds this step's host cut off, as the journal has it; empty without one."""
    for lease in list(context.status.leases.values()):
        if lease.target == context.the_host().name and lease.kind.startswith(KIND):
            return lease.kind.removeprefix(KIND).strip()
    return ""


def find(context: Context) -> Hook | None:
    """The hook that can cut this host off."""
    return context.ports.hooks.find(context.the_host(), "isolate")


def ask(context: Context, name: str, verb: str, **payload: Json) -> Standing:
    """Call a hook. Raises HookFailed for an answer that says neither, and whatever core.ports.Hooks.call raises."""
    host = context.the_host()
    about: dict[str, Json] = {"incident": context.incident.number, "step": context.step.key, "epoch": context.epoch}
    answer = context.ports.hooks.call(host, verb, {**about, **payload}, timeout_s=context.left(), hook=name)
    state, until = answer.get("state"), answer.get("until")
    moment = None if until is None else _moment(until)
    if state not in _STATES or (until is not None and moment is None):
        said = str(answer)[:200]
        raise HookFailed(
            f"hook {name}, {verb} {host.name}: it says neither isolated nor open, or a time in no known form: {said}",
            where=host.name, hint='It must answer {"state": "isolated" or "open", "until": "2026-11-01T08:00:00Z"}',
        )  # fmt: skip
    return Standing(str(state), moment)


def _moment(text: Json) -> datetime | None:
    """An RFC 3339 time with its zone; None for anything else."""
    try:
        moment = from_text(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def knock(context: Context, timeout_s: float = _LOOK_S) -> dict[str, str]:
    """How the host answers the responder on its SSH port and on one that nobody uses."""
    host, prober = context.the_host(), context.ports.prober
    ports = (host.port, 9 if host.port != 9 else 1)
    return {str(port): prober.tcp(host, port, timeout_s=timeout_s) for port in ports}


def dark(answers: dict[str, str]) -> bool:
    """Whether nothing answered at all."""
    return all(answer == "silent" for answer in answers.values())


def shown(answers: dict[str, str]) -> str:
    """The answers for people."""
    return "silent" if dark(answers) else ", ".join(f"port {port} {answer}" for port, answer in answers.items())


# ---------------------------------------------------------------- cutting off


def observe(context: Context, name: str, lease_s: float, why: str) -> dict[str, Json]:
    """What the hook says, and how the host answers. why: what is wrong with SSH."""
    standing, answers = ask(context, name, "status"), knock(context)
    left = standing.left_s(context.ports.clock.now())
    return {
        "hook": name, "why": why, "state": standing.state, "left_s": left, "lease": lease_s, "answers": answers,
        "answers_before_cut": answers_before(context) or answers,
    }  # fmt: skip


def plan(host: str, seen: dict[str, Json]) -> tuple[Change, ...]:
    """Nothing while the hook says isolated, for at least half the lease, and nothing answers."""
    enough = seen["left_s"] is None or seen["left_s"] >= seen["lease"] / 2
    if seen["state"] == "isolated" and enough and dark(seen["answers"]):
        return ()
    name, lease_s = seen["hook"], round(seen["lease"])
    summary = f"cut {host} off the network for {lease_s} s by hook {name}, SSH included: {seen['why']}"
    return (Change(summary, {"hook": name, "lease": lease_s, "answers_before": seen["answers_before_cut"]}),)


def apply(change: Change, context: Context) -> dict[str, Json]:
    """Ask the hook to isolate. What it says of it is only kept: verify looks, also after an unknown outcome."""
    try:
        said = ask(context, change.data["hook"], "isolate", lease_s=change.data["lease"])
        return {"said": said.state}
    except HostError as error:
        return {"said": str(error)}


def verify(context: Context, seen: dict[str, Json], applied: tuple[dict[str, Json], ...]) -> Proof:
    """The hook says isolated, and what answered before is silent now; a word alone never counts as both."""
    name, before = seen["hook"], seen["answers_before_cut"]
    answers = _wait(context, lambda: knock(context), dark)
    try:
        standing = ask(context, name, "status")
        says = standing.state
    except IrflowError as error:
        standing, says = Standing("unknown"), str(error)
    troubles = [one["said"] for one in applied if one["said"] != "isolated"]
    if troubles and says != "isolated":
        says = f"{says}; when it was asked to isolate: {'; '.join(troubles)}"
    silent = "the host is silent to the responder" if not dark(before) else "the host is silent, as it was before"
    checks = (
        Check(f"hook {name} says isolated", standing.state == "isolated", str(seen["state"]), says),
        Check(silent, dark(answers), shown(before), shown(answers)),
    )
    facts: dict[str, Json] = {
        "hook": name, "why": seen["why"], "state": standing.state, "answers_before": before, "answers_after": answers,
        "expires": "irflow" if standing.until is None else "hook",
        "probe_before": _one(before), "probe_after": _one(answers),
    }  # fmt: skip
    if standing.state != "isolated":
        return Proof(checks, facts)
    return Proof(checks, facts, (_lease(context, name, standing, seen["lease"]),))


def _lease(context: Context, name: str, standing: Standing, lease_s: float) -> dict[str, Json]:
    """As long as the hook holds it; else as long as irflow was asked to, which then has to open the host itself."""
    now = context.ports.clock.now()
    until = standing.until or now + timedelta(seconds=lease_s)
    return {"kind": kind(name), "until": to_text(until), "seconds": max(1.0, (until - now).total_seconds())}


def renew(context: Context, name: str, lease_s: float) -> Proof:
    """Ask the hook again for the whole lease; where it says open, or the host answers, that is drift."""
    why = context.status.step(context.step.key).outcome.get("facts", {}).get("why", "")
    seen = observe(context, name, lease_s, why)
    drift = _drift(seen)
    said = ask(context, name, "isolate", lease_s=round(lease_s))
    proof = verify(context, seen, ({"said": said.state},))
    return Proof(proof.checks, {**proof.facts, **({"drift": drift} if drift else {})}, proof.leases)


def _drift(seen: dict[str, Json]) -> str:
    if seen["state"] != "isolated":
        return "gone"
    return "" if dark(seen["answers"]) else "leaking"


# ---------------------------------------------------------------- bringing back


def undo(change: Change, context: Context) -> Proof:
    """Open the host again and prove it; harmless when it was never cut off."""
    name = change.data["hook"]
    was = ask(context, name, "status").state
    ask(context, name, "release")
    return prove_open(context, name, was, change.data["answers_before"])


def prove_open(context: Context, name: str, was: str, before: dict[str, str]) -> Proof:
    """The hook says open, and the host answers as it did before.

    before: the answers before the cut; empty when nobody knows. Raises what core.ports.Hooks.call raises.
    """
    answered = bool(before) and not dark(before)
    answers = _wait(context, lambda: knock(context), lambda now: not answered or not dark(now))
    standing = ask(context, name, "status")
    expected = f", before the cut {shown(before) if before else 'unknown'}"
    checks = (
        Check(f"hook {name} says open", standing.state == "open", was, standing.state),
        Check("the host answers again", not answered or not dark(answers), "", shown(answers) + expected),
    )
    facts: dict[str, Json] = {"hook": name, "state": standing.state, "probe_after": _one(answers)}
    return Proof(checks, facts, ended_leases=(kind(name),) if standing.state == "open" else ())


def answers_before(context: Context) -> dict[str, str]:
    """How the host answered before a hook cut it off, as the journal has it; empty when it does not know.

    Also what was intended counts: an engine may have died between the cut and its outcome.
    """
    for step in list(context.status.steps.values()):
        if step.target == context.the_host().name:
            known = [step.outcome.get("facts", {}), *(change["data"] for change in step.intended)]
            for one in known:
                if one.get("answers_before") and not dark(one["answers_before"]):
                    return dict(one["answers_before"])
    return {}


def _one(answers: dict[str, str]) -> str:
    return next((answer for answer in answers.values() if answer != "silent"), "silent")


def _wait(
    context: Context, look: Callable[[], dict[str, str]], good: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    """Look until it is good, for SETTLE_S at most; the last look counts."""
    pause, end = threading.Event(), time.monotonic() + min(SETTLE_S, context.left())
    while True:
        answers = look()
        if good(answers) or time.monotonic() >= end:
            return answers
        pause.wait(0.1)
