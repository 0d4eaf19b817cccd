"""`file.quarantine`: keep a copy of files as evidence, then move them where nobody gets at them; undo is exact."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from irflow.actions._naming import path_argument
from irflow.actions._quarantine import File, QuarantineParams, shown
from irflow.actions._remote import call
from irflow.actions._taking import Order, record, take
from irflow.core.action import Action, Change, Check, Context, Proof
from irflow.core.errors import Refused
from irflow.core.model import Json

SCRIPT = "quarantine.sh"
_CALL_S = 60.0
_REFUSED = {
    "symlink": "is a link, and links are not followed: name what it points to",
    "directory": "is a folder: name the files",
    "special": "is no regular file",
    "guarded": "is what the responder's own way in, or irflow, lives by",
    "unreadable": "could not be read",
    "too_large": "is larger than max_size",
}


class FileQuarantine(Action[QuarantineParams]):
    """Move files to a folder of root's on their host, without permissions and, where that works, immutable.

    A file is moved only if it still has the hash of the plan, which is looked at again when nobody can exchange it any
    more. Before, its content is fetched and put on record, the same hash on both ends. What runs from it goes on
    running: that is for process.kill_tree. Undo puts it back as it was, and never over something new in its place.
    """

    name: ClassVar[str] = "file.quarantine"
    summary: ClassVar[str] = "Move files, by their hash, to where nobody gets at them, and keep a copy as evidence"
    Params: ClassVar[type[Any]] = QuarantineParams

    def observe(self, params: QuarantineParams, context: Context) -> dict[str, Json]:
        """What is there. Raises Refused, with nothing touched, if any of it must not or cannot be taken."""
        mark = hashlib.sha256(f"{context.incident.id} {context.step.key}".encode()).hexdigest()[:12]
        found, searched = _look(context, mark, params)
        host = context.the_host().name
        wanted = {path_argument(path): value for path, value in params.sha256.items()}
        wrong = [f"{shown(one.name)} {_REFUSED[one.state]}" for one in found if one.state in _REFUSED]
        wrong += [
            f"{shown(one.name)} has SHA-256 {one.sha256}, not {wanted[one.name]}: it was changed meanwhile"
            for one in found
            if one.state == "present" and wanted.get(one.name, one.sha256) != one.sha256
        ]
        if wrong:
            raise Refused("; ".join(wrong[:10]), where=host, hint="Nothing was touched; mend the step's parameters")
        if len(found) > params.most:
            raise Refused(
                f"{len(found)} files are meant, more than the {params.most} that may be taken", where=host,
                hint="Raise `most` if that is right",
            )  # fmt: skip
        return {"id": mark, "files": [one.to_facts() for one in found], "searched": searched}

    def plan(self, params: QuarantineParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for each file that is there; none for what is in quarantine already."""
        changes = []
        for one in map(File.from_facts, seen["files"]):
            if one.state not in ("present", "half_way"):
                continue
            notes = [f"SHA-256 {one.sha256}, {one.size} bytes, mode {one.mode}, uid {one.uid}"]
            if one.pids:
                notes.append(f"runs as {', '.join(one.pids)} and goes on running")
            if one.links > 1:
                notes.append(f"{one.links - 1} more names (hard links) of it stay")
            data: dict[str, Json] = {
                "id": seen["id"], "path": one.path, "max_size": params.max_size, "before": one.metadata,
                "half_way": one.state == "half_way",
            }  # fmt: skip
            changes.append(Change(f"quarantine {shown(one.path)} on {params.host} ({'; '.join(notes)})", data))
        return tuple(changes)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Put its content on record, then move it. Raises Refused when it is not the file of the plan any more."""
        data, before = change.data, change.data["before"]
        if data["half_way"]:  # an earlier try put it on record, and was cut off while it moved it
            _mutate(context, "move", data, ["--sha256", before["sha256"]])
            return {"path": data["path"], "sha256": before["sha256"], "evidence": ""}
        order = Order(
            SCRIPT, ("fetch", "--path", data["path"], "--most", str(data["max_size"])),
            f"file-{before['sha256'][:16]}", "bin", f"{shown(data['path'])}, before it went into quarantine", _CALL_S,
            data["max_size"],
        )  # fmt: skip
        taken = take(context, order)
        record(context, {**taken.entry, "file": shown(data["path"]), "metadata": before})
        if taken.entry["sha256"] != before["sha256"]:
            raise Refused(
                f"{shown(data['path'])} was changed meanwhile: it has SHA-256 {taken.entry['sha256']} now",
                where=context.the_host().name, hint="It was left where it is; both states are worth a look",
            )  # fmt: skip
        _mutate(context, "move", data, ["--sha256", before["sha256"]])
        return {"path": data["path"], "sha256": before["sha256"], "evidence": taken.entry["path"]}

    def verify(
        self, params: QuarantineParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Look over a new connection: the path must be gone, and what is kept must have the planned hash."""
        asked = [File.from_facts(one) for one in seen["files"]]
        extra = tuple(dict.fromkeys(one.path for one in asked if one.state != "missing"))
        found, _ = _look(context, seen["id"], params, only=extra, fresh=True)
        now = {one.name: one for one in found}
        checks: list[Check] = []
        for one in asked:
            name = shown(one.name)
            if one.state == "missing":
                checks.append(Check(f"{name} was there to be taken", False, "", "there is no such file"))
                continue
            kept = now[one.path]
            checks.append(Check(f"{name} is gone", kept.state == "quarantined", one.state, kept.state))
            whole = kept.state == "quarantined" and kept.sha256 == one.sha256
            checks.append(Check(f"{name} is kept unchanged", whole, one.sha256, kept.sha256))
            shut = kept.mode == "0" or kept.links > 1
            checks.append(Check(f"{name} lets nobody in", shut, one.mode, kept.mode))
        if params.hashes:
            whole = seen["searched"] == "complete"
            checks.append(Check("all of the roots was searched", whole, "", seen["searched"]))
        facts: dict[str, Json] = {
            "files": [{"path": shown(one.path), "sha256": one.sha256, "pids": list(one.pids)} for one in asked],
            "evidence_items": [one["evidence"] for one in applied if one["evidence"]],
        }  # fmt: skip
        return Proof(tuple(checks), facts)

    def undo(self, change: Change, context: Context) -> Proof:
        """Put it back as it was. Raises RemoteFailed when something new is in its place: that is not overwritten."""
        data, before = change.data, change.data["before"]
        _mutate(context, "restore", data, [])
        (now,) = _read(
            call(
                context, SCRIPT, ["look", "--id", data["id"], "--path", data["path"]], fresh=True, timeout_s=_CALL_S
            ).text
        )
        name = shown(data["path"])
        return Proof(
            (
                Check(f"{name} is back", now.state == "present", "quarantined", now.state),
                Check(f"{name} has its content", now.sha256 == before["sha256"], before["sha256"], now.sha256),
                Check(f"{name} is as it was", now.metadata == before, _words(before), _words(now.metadata)),
            ),
            {"path": name, "sha256": now.sha256},
        )


def _words(metadata: dict[str, Json]) -> str:
    keys = ("mode", "uid", "gid", "mtime", "flags", "links")
    return ", ".join(f"{key} {metadata[key]}" for key in keys if metadata[key] != "")


def _read(said: str) -> tuple[File, ...]:
    lines = (line.partition("=") for line in said.splitlines())
    return tuple(File.read(value) for key, _, value in lines if key == "file")


def _look(
    context: Context, mark: str, params: QuarantineParams, *, only: Sequence[str] | None = None, fresh: bool = False
) -> tuple[tuple[File, ...], str]:
    """The files, each once, and how far the search came. only: paths to look at instead, base64url."""
    args = params.arguments() if only is None else [part for one in only for part in ("--path", one)]
    if only is not None:
        args += ["--most", str(params.max_size)]
    wait = _CALL_S + (params.search_s if only is None and params.roots else 0)
    said = call(context, SCRIPT, ["look", "--id", mark, *args], fresh=fresh, timeout_s=wait).text
    found = {one.path: one for one in _read(said)}
    searched = next((line.partition("=")[2] for line in said.splitlines() if line.startswith("searched=")), "")
    return tuple(found.values()), searched


def _mutate(context: Context, verb: str, data: dict[str, Json], args: Sequence[str]) -> None:
    """Call a verb that changes the host, with the epoch that makes late callers harmless."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    every = [verb, "--id", data["id"], "--epoch", str(context.epoch), "--step", step, "--path", data["path"]]
    call(context, SCRIPT, [*every, *args], timeout_s=_CALL_S)
