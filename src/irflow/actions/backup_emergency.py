"""`backup.emergency`: save named paths and databases of a host that is cut off, over the responder's own session."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.actions._backup import SCRIPT, BackupParams, Item, in_words, items_of, look, report
from irflow.core.action import Action, Change, Check, Context, Proof
from irflow.core.backups import Stored
from irflow.core.errors import ConnectionLost, IrflowError, OutputTooLarge, RemoteFailed, RepositoryLocked
from irflow.core.model import Json

_TRIES = 3
"""How often one stream is begun. Reading a host again changes nothing there, and what was not marked as whole does not
count; so a stream whose connection was lost, or that found a dead process's lock, may be begun anew at once."""

_SMALLEST_WAIT_S = 1.0

_FOR_READING_BACK = 0.25
"""The part of a step's time that saving leaves over, because a backup that was not read back is not proved."""


class BackupEmergency(Action[BackupParams]):
    """Stream a tar of the paths and a dump of each database into the backup repository, and read them back.

    The host is cut off by then, so everything goes through the SSH session that the cut keeps open. Whatever cannot be
    saved is named and fails the step; the rest is saved nevertheless.
    """

    name: ClassVar[str] = "backup.emergency"
    summary: ClassVar[str] = "Save paths and databases of a host into the backup repository"
    Params: ClassVar[type[Any]] = BackupParams
    # It only reads the host, as taking evidence does, and writes to irflow's own repository. So neither caps nor
    # `protected` and `own` hold it up: those guard against outages of our making, and hosts that must not be touched
    # are the ones whose data must be safe. An unverified sender still starts nothing: planning asks a person then for
    # whatever logs in to a host, reading or not.
    mutates: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "a backup that was taken is kept"

    def observe(self, params: BackupParams, context: Context) -> dict[str, Json]:
        """What this step has saved before, and what of the rest is there on the host."""
        items = items_of(params, context)
        stored = context.ports.backups.find([one.key for one in items], timeout_s=context.left())
        whole = {one.key: one for one in stored if one.whole}
        rest = [one for one in items if one.key not in whole]
        looked = look(params, rest, context) if rest else []
        return {
            "items": [one.to_data() for one in (*(one for one in items if one.key in whole), *looked)],
            "saved": {key: one.id for key, one in whole.items()},
            "unfinished": [one.id for one in stored if not one.whole and one.key not in whole],
            "room": context.ports.backups.room(),
        }

    def plan(self, params: BackupParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for all paths, one for each database; none for what is saved already or cannot be."""
        items = [Item.from_data(one) for one in seen["items"]]
        return tuple(
            Change(
                f"back up {one.what} ({in_words(one.size)}) of {params.host} into restic",
                {**one.to_data(), "max_size": params.max_size, "unfinished": seen["unfinished"]},
            )
            for one in items
            if one.key not in seen["saved"] and not one.problem
        )

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Save one item. A failure is part of the result: the other items are saved all the same."""
        item = Item.from_data({key: value for key, value in change.data.items() if key in Item.__match_args__})
        try:
            facts = _save_again(item, int(change.data["max_size"]), context)
            if change.data["unfinished"]:
                _forget_unfinished(item, context)
        except IrflowError as error:
            return {"key": item.key, "error": str(error)}
        return {"key": item.key, **facts}

    def verify(
        self, params: BackupParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Read every item back out of the repository: it must be what the host said it sent, and must be listable."""
        backups = context.ports.backups
        items = [Item.from_data(one) for one in seen["items"]]
        stored = backups.find([one.key for one in items], timeout_s=context.left())
        whole = {one.key: one for one in stored if one.whole}
        results = {one["key"]: one for one in applied if "key" in one}
        checks: list[Check] = []
        facts: list[dict[str, Json]] = []
        for item in items:
            problem = item.problem or results.get(item.key, {}).get("error", "")
            found = whole.get(item.key)
            if found is None:
                checks.append(
                    Check(f"{item.what} is saved", False, "", problem or "nothing of it is in the repository")
                )
                continue
            told = results.get(item.key) or backups.details(found, timeout_s=context.left())
            more, entries = _read_back(item, found, context)
            checks += [*more, *_complete(item, told)]
            facts.append(_facts(item, found, told, entries))
        left = [one.id for one in stored if not one.whole]
        return Proof(
            tuple(checks),
            {
                "backups": facts, "snapshots": [one["snapshot"] for one in facts],
                "bytes": sum(one["bytes"] for one in facts), "unfinished": left,
            },
        )  # fmt: skip


# ---------------------------------------------------------------- saving


def _save_again(item: Item, most: int, context: Context) -> dict[str, Json]:
    """Save an item, trying anew where that may help. Raises IrflowError."""
    for left in reversed(range(_TRIES)):
        try:
            return _save(item, most, context)
        except OutputTooLarge as error:
            raise IrflowError(
                f"more than {in_words(most)} came", where=error.where, hint="Raise max_size, or exclude some of it"
            ) from None
        except (ConnectionLost, RepositoryLocked) as error:
            again = not isinstance(error, RepositoryLocked) or error.cleared
            if not again or not left or context.left() < _SMALLEST_WAIT_S:
                raise
    raise AssertionError("the last try returns or raises")


def _save(item: Item, most: int, context: Context) -> dict[str, Json]:
    host, clock = context.the_host(), context.ports.clock
    seconds = max(_SMALLEST_WAIT_S, context.left() * (1 - _FOR_READING_BACK))
    verb = "tar" if item.kind == "tar" else "dump"
    arguments = [verb, "--seconds", str(int(seconds)), *item.arguments]
    tags = (context.incident.number, host.name, context.step.key)
    started = clock.monotonic()
    with context.ports.backups.save(item.key, item.name, host=host.name, tags=tags, timeout_s=seconds) as saving:
        done = context.ports.shell.stream(host, SCRIPT, arguments, sink=saving.write, timeout_s=seconds, max_bytes=most)
        if done.status != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise RemoteFailed(said[-1].removeprefix("irflow: "), where=host.name, status=done.status)
        told = report(done.stderr)
        if told["sha256"] != done.sha256:
            raise IrflowError(
                f"{done.size} bytes with SHA-256 {done.sha256} arrived, {told['sha256']} was sent", where=host.name,
                hint="Nothing was kept; back it up again",
            )  # fmt: skip
        told["seconds"] = round(clock.monotonic() - started, 3)
        saving.complete(done.sha256, {**told, "missing": list(item.missing)})
    return told


def _forget_unfinished(item: Item, context: Context) -> None:
    """Drop what earlier tries of this item left, now that a whole one is there. If others are at work, it stays."""
    backups = context.ports.backups
    unfinished = [one for one in backups.find([item.key], timeout_s=context.left()) if not one.whole]
    if unfinished:
        backups.forget(unfinished, timeout_s=context.left())


# ---------------------------------------------------------------- proof


def _read_back(item: Item, found: Stored, context: Context) -> tuple[list[Check], int | None]:
    """Checks of the content, and how many entries it lists."""
    what = f"the repository gives back {item.what} as the host sent it"
    try:
        read = context.ports.backups.read_back(found, item.kind, timeout_s=context.left())
    except IrflowError as error:
        return [Check(what, False, found.sha256, str(error))], None
    checks = [Check(what, read.sha256 == found.sha256, found.sha256, read.sha256)]
    if read.listable:
        checks.append(
            Check(f"{item.what} can be listed", bool(read.entries), "", read.trouble or f"{read.entries} entries")
        )
    return checks, read.entries


def _complete(item: Item, told: dict[str, Json]) -> list[Check]:
    """What was asked for and is not in it. Files that changed meanwhile are no failure: the host is alive."""
    missing = [Check(f"{one} is saved", False, "", "it is not there") for one in told.get("missing", item.missing)]
    if told.get("left_out_count"):
        names = f"{told['left_out_count']}: {'; '.join(told['left_out'][:5])}"
        missing.append(Check(f"every file of {item.what} could be read", False, "", names))
    return missing


def _facts(item: Item, found: Stored, told: dict[str, Json], entries: int | None) -> dict[str, Json]:
    return {
        "what": item.what, "kind": item.kind, "snapshot": found.id, "receipt": found.receipt, "name": found.name,
        "bytes": found.bytes, "sha256": found.sha256, "entries": entries, "seconds": told.get("seconds"),
        **{key: told.get(key) for key in ("changed", "changed_count", "left_out", "left_out_count")},
        "missing": list(told.get("missing", item.missing)),
    }  # fmt: skip
