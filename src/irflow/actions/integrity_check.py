"""`integrity.check`: compare a host with its baseline; nothing an intruder left may be there any more."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.actions import _manifest
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import IrflowError
from irflow.core.model import Json

_SHOWN = 200


class CheckParams(Params):
    """host: inventory name. baseline: path in the evidence store, the newest of the host if none is given.

    accept: paths that a person changed on purpose while removing what the intruder left. paths: as in the baseline.
    """

    host: str
    baseline: str | None = None
    accept: tuple[str, ...] = ()
    paths: tuple[str, ...] = _manifest.PATHS


class IntegrityCheck(Action[CheckParams]):
    """Fails, naming every path, when files were changed, added or removed, when a program runs that has no file or an
    odd one, or when a new port is open. Keys that were withdrawn are named, but do not fail.

    A host whose kernel is not its owner's can lie to any check from inside; rebuild those.
    """

    name: ClassVar[str] = "integrity.check"
    summary: ClassVar[str] = "Compare a host with its baseline"
    Params: ClassVar[type[Any]] = CheckParams
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "it only reads"

    def observe(self, params: CheckParams, context: Context) -> dict[str, Json]:
        """Find the baseline, look at the host, compare. Raises IrflowError without a baseline or with a forged one."""
        path = params.baseline or context.ports.evidence.newest(_manifest.FOLDER, _manifest.prefix(params.host))
        if path is None:
            raise IrflowError(
                "no baseline of this host was ever taken", where=params.host,
                hint="Compare by hand or rebuild the host; take baselines of healthy hosts: irflow run baseline",
            )  # fmt: skip
        content = context.ports.evidence.get(path)
        if not _manifest.untouched(path, content):
            raise IrflowError("the baseline is not what was recorded", where=path, hint="See irflow evidence verify")
        now = _manifest.fetch(context, params.paths)
        found = _manifest.compare(content.decode("utf-8", "replace"), now, params.accept)
        return {"baseline": path, "lines": now.count("\n"), **found.to_facts()}

    def plan(self, params: CheckParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing to change."""
        return ()

    def verify(
        self, params: CheckParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """One check per kind of difference."""
        kinds = {
            "changed": "no file changed", "added": "no file added", "removed": "no file removed",
            "running": "no program runs without its file", "listening": "no new port is open",
        }  # fmt: skip
        checks = tuple(
            Check(text, not seen[kind], "as in the baseline", _names(seen[kind])) for kind, text in kinds.items()
        )
        return Proof(checks, {**seen, **{kind: seen[kind][:_SHOWN] for kind in kinds}})


def _names(paths: list[str]) -> str:
    """The first few, and how many more."""
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(paths[:5]) + more if paths else "as in the baseline"
