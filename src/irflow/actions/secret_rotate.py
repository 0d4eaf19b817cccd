"""`secret.rotate`: replace secrets, and prove that the new values work and the old ones are dead."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import Refused
from irflow.core.model import Json
from irflow.core.rotations import Done, Rotations
from irflow.core.secret_changes import secret_change


class RotateParams(Params):
    """secrets: names as in secrets.yaml; all of them without any."""

    secrets: tuple[str, ...] = ()


class SecretRotate(Action[RotateParams]):
    """Replace secrets in the order of secrets.yaml, irflow's own last, side by side where none waits for another.

    Each is proved as it goes: the new value gets in, the old one is refused. A run that was cut off goes on where it
    was, and what it had replaced is not replaced again. The journal has every transition, and no value.
    """

    name: ClassVar[str] = "secret.rotate"
    summary: ClassVar[str] = "Replace secrets; prove that the new values work and the old ones are dead"
    Params: ClassVar[type[Any]] = RotateParams
    touches_host: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "somebody else may know the values from before; rotate again instead"

    def observe(self, params: RotateParams, context: Context) -> dict[str, Json]:
        """Which secrets, in which order; none where all are meant and irflow looks after none.

        One name that nobody knows keeps no other secret from being replaced; verify names it. Raises UsageError where
        none is known, Refused where some are named and irflow looks after none.
        """
        if not params.secrets and not _looked_after(context):
            return {"groups": [], "unknown": [], "run": ""}
        inventory = _rotations(context).inventory
        asked = list(dict.fromkeys(params.secrets or inventory.secrets))
        unknown = [name for name in asked if name not in inventory.secrets]
        if unknown == asked:
            inventory.get(unknown[0])
        groups = [list(group) for group in inventory.order(name for name in asked if name not in unknown)]
        return {"groups": groups, "unknown": unknown, "run": f"{context.incident.id}/{context.step.key}"}

    def plan(self, params: RotateParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for all: which can go side by side is the inventory's to say."""
        names = [name for group in seen["groups"] for name in group]
        if not names:
            return ()
        many = "1 secret" if len(names) == 1 else f"{len(names)} secrets"
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        return (Change(f"replace {many}: {shown}", {"secrets": names, "run": seen["run"]}),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Replace them. One that fails keeps no other from being replaced; verify names it."""

        def told(name: str, transition: str, version: int) -> None:
            draft = secret_change(name, transition, version, context.actor, step=context.step.key, epoch=context.epoch)
            if draft is not None:
                context.ports.store.transact(lambda tx: tx.append(context.incident.id, draft))

        ended = _rotations(context).rotate(change.data["secrets"], change.data["run"], told)
        return {"secrets": [_facts(one) for one in ended]}

    def verify(
        self, params: RotateParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Log in with every live value once more. That each old one is refused was proved before it was forgotten."""
        names = [name for group in seen["groups"] for name in group]
        if not names and not seen["unknown"]:
            return Proof((), {"secrets": []}, note="secrets.yaml names no secret: all are left to their owners")
        results = {one["name"]: one for each in applied for one in each["secrets"]}
        checks = [
            Check(f"{name}: replaced, the old value refused", results[name]["good"], "", results[name]["said"])
            for name in names if name in results
        ]  # fmt: skip
        checks += [
            Check(f"{one.name}: the live value works", one.good, "", str(one.error or "works"))
            for one in _rotations(context).verify(names)
        ]
        checks += [
            Check(f"{name}: one of secrets.yaml", False, "", "not there: its owner must replace it")
            for name in seen.get("unknown", ())
        ]
        gaps = {name: one["gap_s"] for name, one in results.items() if one["gap_s"] is not None}
        return Proof(tuple(checks), {"secrets": names, "run": seen["run"], "gaps_s": gaps})


def _looked_after(context: Context) -> bool:
    found = context.ports.rotations
    return found is not None and bool(found.inventory.secrets)


def _rotations(context: Context) -> Rotations:
    found = context.ports.rotations
    if found is None or not found.inventory.secrets:
        raise Refused("irflow looks after no secrets", where="secrets.yaml", hint="See secrets/README.md for its form")
    return found


def _facts(one: Done) -> dict[str, Json]:
    return {
        "name": one.name, "good": one.good, "said": str(one.error) if one.error else one.result,
        "gap_s": one.rotation.gap_s if one.rotation else None,
    }  # fmt: skip
