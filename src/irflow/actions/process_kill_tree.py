"""`process.kill_tree`: freeze processes and all that belongs to them, keep a record and their programs, kill them."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Sequence
from typing import Any, ClassVar

from irflow.actions._kill_params import KillParams
from irflow.actions._processes import Process, in_words, read
from irflow.actions._remote import call
from irflow.actions._taking import Order, record, take
from irflow.core.action import Action, Change, Check, Context, Proof
from irflow.core.errors import IrflowError, Refused
from irflow.core.model import Json

SCRIPT = "killtree.sh"
_KEPT = 200
"""So many processes are named in the journal; of a fork bomb the rest is a number."""
_CALL_S = 40.0
"""Freezing ends after 10 s (killtree.sh), hashing what runs may take as long again."""
_MOST_SAID = 16 << 20
_ALIVE, _BACK, _KEPT_SAFE = (
    "none of it is alive",
    "nothing of it comes back",
    "the programs are on record with the hashes that they have on the host",
)


class ProcessKillTree(Action[KillParams]):
    """Kill processes and what belongs to them: children, sessions, control groups, copies of the same program.

    All is frozen first, until nothing new appears, so that what forks does not outrun it. Then a record of it is
    fetched (programs, also deleted ones, open files, sockets, maps; of the environment only names) and journalled, and
    only then it is killed. If that is cut off in between, what is frozen stays so, and the next run finishes it.
    What shares no parent, session, log-in, control group or program with what is named escapes; the check for what
    comes back, and `hashes`, are there for that.
    """

    name: ClassVar[str] = "process.kill_tree"
    summary: ClassVar[str] = "Freeze processes with all that belongs to them, keep a record, kill them"
    Params: ClassVar[type[Any]] = KillParams
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = (
        "a killed process has lost its memory; start its service anew if it was a good one"
    )

    def observe(self, params: KillParams, context: Context) -> dict[str, Json]:
        """What is there of it now. Raises Refused when that is more than `most`; the host refuses what carries us."""
        mark = hashlib.sha256(f"{context.incident.id} {context.step.key}".encode()).hexdigest()[:12]
        found, other = _look(context, mark, params.selectors(), params.reach)
        if len(found) > params.most:
            raise Refused(
                f"{len(found)} processes belong to it, more than the {params.most} that may be killed: "
                f"{in_words(found, len(found))}",
                where=context.the_host().name, hint="Raise `most` if it is right, or lower `reach`",
            )  # fmt: skip
        return {
            "id": mark, "processes": [one.to_facts() for one in found[:_KEPT]], "count": int(other["count"]),
            "moving": int(other["moving"]),
        }  # fmt: skip

    def plan(self, params: KillParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for all of it: what belongs together must be frozen together. Nothing when nothing runs."""
        if not seen["count"] and not seen["moving"]:
            return ()
        found = [Process(**one) for one in seen["processes"]]
        many = "1 process" if seen["count"] == 1 else f"{seen['count']} processes"
        what = f"{many} on {params.host}: {in_words(found, seen['count'])}"
        if not found:
            what = f"what runs on {params.host} under a new pid all the time"
        data: dict[str, Json] = {
            "id": seen["id"], "selectors": params.selectors(), "reach": params.reach, "record": params.record,
            "max_program": params.max_program, "processes": [one.mark for one in found], "count": seen["count"],
        }  # fmt: skip
        return (Change(f"kill {what}", data),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Freeze it, keep its record, kill it. Raises IrflowError when the record fails: it stays frozen then."""
        data, mark = change.data, change.data["id"]
        said = _mutate(context, "freeze", mark, [*data["selectors"], "--reach", data["reach"]])
        frozen, other = read(said)
        result: dict[str, Json] = {
            "frozen": [one.to_facts() for one in frozen[:_KEPT]], "count": int(other["count"]),
            "stable": other["stable"] == "yes", "programs": {}, "record": "",
        }  # fmt: skip
        if frozen and data["record"]:
            result |= _keep_record(context, mark, frozen, data["max_program"])
        _mutate(context, "kill", mark, [])
        return result

    def verify(
        self, params: KillParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Look over a new connection, for as long as `watch` says, for what lives on and for what was started again."""
        nothing: dict[str, Json] = {"frozen": [], "count": 0, "programs": {}, "record": "", "stable": True}
        done = applied[0] if applied else nothing
        gone = [Process(**one) for one in (*seen["processes"], *done["frozen"])]
        marks = {one.mark for one in gone}
        strange: set[str] = {one.sha256 for one in gone if one.sha256 != "-" and not one.packaged}
        watched = [*params.selectors(), *_each("--strange", strange)]
        found, other = _look(context, seen["id"], watched, "tree", watch=params.watch, fresh=True)
        alive = [one for one in found if one.mark in marks or one.link == "frozen"]
        back = [one for one in found if one not in alive]
        moving = int(other["moving"]) > 0
        was = f"{max(seen['count'], done['count'])} alive"
        checks = [
            Check(_ALIVE, not alive, was, in_words(alive, len(alive)) or "none"),
            Check(f"{_BACK} within {params.watch:g} s", not back and not moving, was, _by_whom(back, moving)),
        ]
        if applied and params.record and done["count"]:
            wrong = [one for one, same in done["programs"].items() if not same]
            checks.append(
                Check(_KEPT_SAFE, not wrong, f"{len(done['programs'])} programs", ", ".join(wrong) or "the same")
            )
        facts: dict[str, Json] = {
            "killed": done["count"], "processes": list(dict.fromkeys(map(str, gone)))[:50],
            "hashes": sorted(strange), "programs": sorted(done["programs"]),
            "record": done["record"], "watched_s": params.watch, "stable": done["stable"],
            "not_planned": max(0, done["count"] - seen["count"]),
        }  # fmt: skip
        return Proof(tuple(checks), facts)


def _keep_record(context: Context, mark: str, frozen: Sequence[Process], most: int) -> dict[str, Json]:
    """Fetch the record, compare each program with the hash that the host gave, and put it into the journal."""
    programs = sorted({one.sha256 for one in frozen if one.sha256 != "-"})
    order = Order(
        SCRIPT, ("record", "--id", mark, "--program-bytes", str(most)), "killed-processes", "tar.gz",
        f"record and programs of {len(frozen)} frozen processes, before they were killed", 90.0,
        (len(programs) + 1) * most + (64 << 20),
    )  # fmt: skip
    try:
        taken = take(context, order)
    except IrflowError as error:
        error.hint = "What was found stays frozen; try again, or set record: false to kill it without a record"
        raise
    arrived = programs_in(taken.content)
    left = {one.split("-")[1] for one in taken.entry["missing"] if one.endswith("-bytes")}
    same = {one: arrived.get(one) == one for one in programs if one not in left}
    facts: dict[str, Json] = {"processes": [str(one) for one in frozen[:50]], "programs": sorted(arrived)}
    record(context, {**taken.entry, **facts})
    return {"programs": same, "record": taken.entry["path"]}


def programs_in(content: bytes) -> dict[str, str]:
    """The programs of a record: by the SHA-256 the host gave each, the SHA-256 of what arrived."""
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for one in archive:
            folder, _, name = one.name.rpartition("/")
            if folder == "evidence/programs" and one.isfile() and (stream := archive.extractfile(one)):
                found[name] = hashlib.sha256(stream.read()).hexdigest()
    return found


def _by_whom(back: Sequence[Process], moving: bool) -> str:
    """What came back, and who started it; for people."""
    named = [f"{one}, started by {one.parent} ({one.parent_name or 'gone'})" for one in back[:5]]
    return "; ".join([*named, *(["what runs under a new pid all the time"] if moving else [])]) or "nothing"


def _each(option: str, values: set[str]) -> list[str]:
    return [part for one in sorted(values)[:200] for part in (option, one)]


def _look(
    context: Context, mark: str, selectors: Sequence[str], reach: str, *, watch: float = 0, fresh: bool = False
) -> tuple[tuple[Process, ...], dict[str, str]]:
    """What is there of it, roots first. watch: seconds to look again while there is nothing."""
    args = ["look", "--id", mark, *selectors, "--reach", reach, "--watch", str(round(watch * 10))]
    return read(call(context, SCRIPT, args, fresh=fresh, max_output=_MOST_SAID, timeout_s=_CALL_S + watch).text)


def _mutate(context: Context, verb: str, mark: str, args: Sequence[str]) -> str:
    """Call a verb that changes the host, with the epoch that makes late callers harmless."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    every = [verb, "--id", mark, "--epoch", str(context.epoch), "--step", step]
    return call(context, SCRIPT, [*every, *args], max_output=_MOST_SAID, timeout_s=_CALL_S).text
