"""core.backups.Backups over restic: each stream is a snapshot, and whole once a second one, its receipt, says so.

A stream's own snapshot proves nothing: restic keeps what it got when its input ends, however it ended. The receipt is
made afterwards. Its tags name the stream's snapshot, hash and size, its content what else was known. Both are plain
snapshots, so that whoever holds the repository and its password needs nothing of irflow.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from irflow.adapters.backup_restic import locks, pipes, reading
from irflow.adapters.backup_restic.first_use import FirstUse
from irflow.adapters.backup_restic.program import Call, Locked, NoRepository, Repository, calling, program
from irflow.adapters.deadline import Deadline
from irflow.core.backups import ReadBack, Stored
from irflow.core.errors import IrflowError
from irflow.core.model import Json

_SWEEP_S = 15.0
"""How long looking for a lock that was left may take; two to four starts of restic."""

_LOOK_EVERY = 64 << 20
"""How many bytes may be written between two looks at the room left."""


class ResticBackups:
    """One repository. first_use: makes it when there is none. keep_free: bytes of its disk that are never used.

    parallel: most streams at once; restic needs about 150 MB and one core each.
    """

    def __init__(self, repository: Repository, first_use: FirstUse, *, keep_free: int, parallel: int) -> None:
        self._repository = repository
        self._first_use = first_use
        self._keep_free = keep_free
        self._turns = threading.BoundedSemaphore(parallel)

    def find(self, keys: Sequence[str], *, timeout_s: float) -> tuple[Stored, ...]:
        """See core.backups.Backups.find. A repository that does not exist holds nothing."""
        if not self._first_use.happened():
            return ()
        deadline = Deadline.after(timeout_s)
        tags = [part for key in keys for part in ("--tag", f"irflow,key={key}")]
        with calling(self._repository, "snapshots", "--json", "--no-lock", *tags) as call:
            try:
                listed = json.loads(call.wait(deadline)) or []
            except NoRepository:
                return ()
        return stored(listed)

    @contextmanager
    def save(self, key: str, name: str, *, host: str, tags: Sequence[str], timeout_s: float) -> Iterator[ResticSaving]:
        """See core.backups.Backups.save."""
        deadline = Deadline.after(timeout_s)
        if not self._turns.acquire(timeout=deadline.left()):
            raise IrflowError("no turn came in time: too many backups at once", where=self._repository.name)
        try:
            self._first_use.make(deadline)
            self.check_room()
            labels = ["irflow", f"key={key}", *(one.replace(",", "_") for one in tags)]
            saving = ResticSaving(self, self._repository, name, host, labels, deadline)
            try:
                yield saving
            finally:
                saving.end()
        finally:
            self._turns.release()

    def details(self, one: Stored, *, timeout_s: float) -> dict[str, Json]:
        """See core.backups.Backups.details."""
        with calling(self._repository, "dump", "--no-lock", one.receipt, _receipt_name(one.name)) as call:
            found = json.loads(call.wait(Deadline.after(timeout_s)))
        return found if isinstance(found, dict) else {}

    def read_back(self, one: Stored, kind: str, *, timeout_s: float) -> ReadBack:
        """See core.backups.Backups.read_back."""
        return reading.read_back(self._repository, one, kind, Deadline.after(timeout_s))

    def forget(self, unfinished: Sequence[Stored], *, timeout_s: float) -> bool:
        """See core.backups.Backups.forget. What was stored of them stays until somebody runs `restic prune`."""
        if any(one.whole for one in unfinished):
            raise ValueError("a whole backup is kept")
        deadline = Deadline.after(timeout_s)
        for _ in range(2):
            with calling(self._repository, "forget", *(one.id for one in unfinished)) as call:
                try:
                    call.wait(deadline)
                    return True
                except Locked as error:
                    if not locks.explain(self._repository, error, deadline).cleared:
                        return False
        return False

    def describe(self, *, timeout_s: float) -> str:
        """How it is, for people. Raises what find raises, and IrflowError when it is full or has no password."""
        program()
        self._first_use.check_password()
        room = self.room()
        left = "" if room is None else f", room for {room / 1e9:.1f} GB"
        self.check_room()
        if not self._first_use.happened():
            return f"{self._repository.name}: made at the first use{left}"
        with calling(self._repository, "cat", "config", "--no-lock") as call:
            try:
                call.wait(Deadline.after(timeout_s))
            except NoRepository:
                return f"{self._repository.name}: made at the first use{left}"
        return f"{self._repository.name}{left}"

    def room(self) -> int | None:
        """See core.backups.Backups.room."""
        folder = self._repository.folder
        while folder is not None and not folder.exists():
            folder = folder.parent
        if folder is None:
            return None
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize - self._keep_free

    def check_room(self) -> None:
        """Raise IrflowError when no more may be written: irflow's journal may be on the same disk."""
        room = self.room()
        if room is not None and room <= 0:
            raise IrflowError(
                f"the backup repository's disk is full: what is left, {self._keep_free >> 20} MiB, is kept free",
                where=self._repository.name,
                hint="Free some space, put backup.repository elsewhere, or lower backup.keep_free_mb",
            )


class ResticSaving:
    """core.backups.Saving: one `restic backup --stdin`."""

    def __init__(
        self, backups: ResticBackups, repository: Repository, name: str, host: str, labels: list[str],
        deadline: Deadline,
    ) -> None:  # fmt: skip
        self._backups, self._repository, self._deadline = backups, repository, deadline
        self._name, self._host, self._labels = name, host, labels
        self._written, self._next_look = 0, _LOOK_EVERY
        self._input: int | None = None
        self._call = self._begin(name, "part=stream")

    def write(self, piece: bytes) -> None:
        """See core.backups.Saving.write."""
        self._write(piece)
        self._written += len(piece)
        if self._written >= self._next_look:
            self._next_look = self._written + _LOOK_EVERY
            self._backups.check_room()

    def complete(self, sha256: str, facts: dict[str, Json]) -> None:
        """See core.backups.Saving.complete."""
        snapshot = self._finish()
        of = [f"of={snapshot}", f"sha256={sha256}", f"bytes={self._written}"]
        content = {"snapshot": snapshot, "name": self._name, "sha256": sha256, "bytes": self._written, **facts}
        self._call.close()
        self._call = self._begin(_receipt_name(self._name), "part=receipt", *of)
        self._write(json.dumps(content, indent=1).encode())
        self._finish()

    def end(self) -> None:
        """End whatever is still at work; nothing of it is kept."""
        interrupted = self._call.interrupt()  # before its input ends, which it would take for the end of the stream
        self._close_input()
        self._call.close()
        if interrupted:
            with suppress(IrflowError):  # what has to be told is why it was interrupted
                locks.sweep(self._repository, Deadline.after(_SWEEP_S))

    def _close_input(self) -> None:
        if self._input is not None:
            os.close(self._input)
            self._input = None

    def _begin(self, name: str, *labels: str) -> Call:
        theirs, ours = os.pipe()
        try:
            tags = [part for one in (*self._labels, *labels) for part in ("--tag", one)]
            options = ["--host", self._host, "--stdin", "--stdin-filename", name, "--json", "--quiet", *tags]
            call = Call(self._repository, ["backup", *options], stdin=theirs, stdout=None)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._input = pipes.prepare(ours)
        return call

    def _write(self, piece: bytes) -> None:
        if self._input is None:
            raise ValueError("this stream is over")
        try:
            pipes.write(self._input, piece, self._deadline)
        except BrokenPipeError:
            self._finish()
            raise IrflowError("restic ended before everything was written", where=self._repository.name) from None
        except pipes.Late:
            raise self._call.late(self._deadline) from None

    def _finish(self) -> str:
        """Close its input and wait; the short id of its snapshot."""
        self._close_input()
        try:
            summary = self._call.wait(self._deadline)
        except Locked as error:
            raise locks.explain(self._repository, error, self._deadline) from None
        lines = [json.loads(one) for one in summary.splitlines() if one.startswith(b"{")]
        return str(next(one["snapshot_id"] for one in reversed(lines) if "snapshot_id" in one))


def _receipt_name(name: str) -> str:
    return f"{name}.receipt.json"


def stored(listed: list[dict[str, Any]]) -> tuple[Stored, ...]:
    """The streams among snapshots as restic lists them, oldest first; whole those that have a receipt."""
    tagged = [(one, _labels(one)) for one in sorted(listed, key=lambda one: datetime.fromisoformat(one["time"]))]
    receipts = {labels["of"]: (one, labels) for one, labels in tagged if labels.get("part") == "receipt"}
    found = []
    for one, labels in tagged:
        if labels.get("part") != "stream":
            continue
        receipt, told = receipts.get(one["id"][:8], (None, {}))
        if receipt is not None and told["key"] != labels["key"]:
            receipt, told = None, {}
        found.append(
            Stored(
                one["id"], one["paths"][0], labels["key"], one["time"], receipt["id"] if receipt else "",
                told.get("sha256", ""), int(told.get("bytes", 0)),
            )
        )  # fmt: skip
    return tuple(found)


def _labels(snapshot: dict[str, Any]) -> dict[str, str]:
    """The tags of the form NAME=VALUE."""
    return dict(one.split("=", 1) for one in snapshot.get("tags") or () if "=" in one)
