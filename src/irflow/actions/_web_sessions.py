"""Sessions of an application, which only the application can end: a hook does, and says how many are left."""

from __future__ import annotations

from irflow.core.action import Change, Check, Context, Proof
from irflow.core.errors import HookFailed, IrflowError
from irflow.core.model import Json

END, COUNT = "revoke_sessions", "check"
"""What the hook must be able to do; it is told accounts, addresses and the incident each time."""
_NONE = "irflow.yaml names no hook that does revoke_sessions and check for this host"


def observe(context: Context, accounts: list[str], addresses: list[str]) -> dict[str, Json]:
    """The hook's name, empty without one, and how many sessions it counts; what it cannot say is left to verify."""
    hook = context.ports.hooks.find(context.the_host(), END)
    if hook is None:
        return {"hook": "", "left": None, "said": _NONE}
    try:
        return {"hook": hook.name, "left": _count(context, hook.name, accounts, addresses), "said": ""}
    except IrflowError as error:
        return {"hook": hook.name, "left": None, "said": str(error)}


def plan(host: str, seen: dict[str, Json], asked: dict[str, Json]) -> tuple[Change, ...]:
    """Nothing without a hook, or when it counts none."""
    if not seen["hook"] or seen["left"] == 0:
        return ()
    now = "it does not say how many" if seen["left"] is None else f"{seen['left']} now"
    whose = " or ".join(
        filter(None, [f"of {', '.join(asked['accounts'])}" * bool(asked["accounts"]), _origin(asked["addresses"])])
    )
    return (
        Change(f"end web sessions {whose} on {host} by hook {seen['hook']} ({now})", {**asked, "hook": seen["hook"]}),
    )


def _origin(addresses: list[str]) -> str:
    return f"from {', '.join(addresses[:3])}{' ...' * (len(addresses) > 3)}" if addresses else ""


def apply(change: Change, context: Context) -> dict[str, Json]:
    """Ask the hook to end them. Its failure is only kept: verify asks it to count, also after an unknown outcome."""
    name = change.data["hook"]
    try:
        answer = _ask(context, name, END, change.data["accounts"], change.data["addresses"])
        return {"web_ended": _number(context, name, END, answer, "ended"), "web_said": ""}
    except IrflowError as error:
        return {"web_ended": 0, "web_said": str(error)}


def verify(
    context: Context, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], accounts: list[str],
    addresses: list[str],
) -> Proof:  # fmt: skip
    """It counts when the hook's own count is 0; that it did not fail is not enough."""
    troubles = [one["web_said"] for one in applied if one.get("web_said")]
    before = str(seen["left"]) if seen["left"] is not None else seen["said"]
    left: int | None = None
    said = _NONE
    if seen["hook"]:
        try:
            left = _count(context, seen["hook"], accounts, addresses)
            said = f"{left} left"
        except IrflowError as error:
            said = str(error)
    if left != 0:
        said = "; ".join([said, *troubles])
    name = f"hook {seen['hook']} counts no web session" if seen["hook"] else "web sessions are ended by a hook"
    ended = sum(one.get("web_ended", 0) for one in applied)
    return Proof((Check(name, left == 0, before, said),), {"hook": seen["hook"], "web_ended": ended})


def _count(context: Context, name: str, accounts: list[str], addresses: list[str]) -> int:
    return _number(context, name, COUNT, _ask(context, name, COUNT, accounts, addresses), "left")


def _ask(context: Context, name: str, verb: str, accounts: list[str], addresses: list[str]) -> dict[str, Json]:
    payload: dict[str, Json] = {
        "incident": context.incident.number, "step": context.step.key, "epoch": context.epoch, "accounts": accounts,
        "addresses": addresses,
    }  # fmt: skip
    return context.ports.hooks.call(context.the_host(), verb, payload, timeout_s=context.left(), hook=name)


def _number(context: Context, name: str, verb: str, answer: dict[str, Json], key: str) -> int:
    """A count in a hook's answer. Raises HookFailed when there is none."""
    value = answer.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        host = context.the_host().name
        raise HookFailed(
            f"hook {name}, {verb} {host}: it does not say how many: {str(answer)[:200]}", where=host,
            hint=f'It must answer {{"{key}": 0}}, or how many there are',
        )  # fmt: skip
    return value
