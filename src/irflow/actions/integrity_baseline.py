"""`integrity.baseline`: record how a healthy host looks, off the host."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.actions import _manifest
from irflow.actions._custody import custody
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.model import Json


class BaselineParams(Params):
    """host: inventory name. paths: absolute; `meta:PATH` records names, sizes, owners and modes without content."""

    host: str
    paths: tuple[str, ...] = _manifest.PATHS


class IntegrityBaseline(Action[BaselineParams]):
    """Keep a manifest of the host in the evidence store. Take it while the host is known to be in order."""

    name: ClassVar[str] = "integrity.baseline"
    summary: ClassVar[str] = "Record how a healthy host looks"
    Params: ClassVar[type[Any]] = BaselineParams
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "a baseline is kept; a newer one takes its place"

    def observe(self, params: BaselineParams, context: Context) -> dict[str, Json]:
        """Which baseline there is already."""
        return {"before": context.ports.evidence.newest(_manifest.FOLDER, _manifest.prefix(params.host)) or ""}

    def plan(self, params: BaselineParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Always a new one."""
        return (Change(f"record the baseline of {params.host}", {"host": params.host, "paths": list(params.paths)}),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Fetch the manifest and keep it."""
        at = context.ports.clock.now()
        paths = tuple(change.data["paths"])
        content = _manifest.fetch(context, paths).encode()
        named = _manifest.name(context.the_host().name, content, at)
        stored = context.ports.evidence.put(_manifest.FOLDER, named, content)
        entry = custody(context, ["list", *paths], at, _manifest.SCRIPT) | {
            "name": named, "path": stored.path, "sha256": stored.sha256, "bytes": stored.bytes, "profile": "baseline",
            "what": "baseline of a healthy host", "clock_offset_s": None,
        }  # fmt: skip
        return {"entry": entry, "lines": content.count(b"\n")}

    def verify(
        self, params: BaselineParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """It is in the store, whole, and the one that will be found."""
        entry = applied[0]["entry"]
        newest = context.ports.evidence.newest(_manifest.FOLDER, _manifest.prefix(params.host))
        whole = _manifest.untouched(entry["path"], context.ports.evidence.get(entry["path"]))
        checks = (
            Check("the baseline is the newest of the host", newest == entry["path"], str(seen["before"]), newest or ""),
            Check("the baseline is whole", whole),
        )
        facts = {
            "baseline": entry["path"],
            "sha256": entry["sha256"],
            "lines": applied[0]["lines"],
            "evidence": [entry],
        }
        return Proof(checks, facts)
