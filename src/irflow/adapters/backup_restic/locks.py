"""Locks that dead processes of this machine left in a repository; nobody else's are ever taken away."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from irflow.adapters.backup_restic.program import Locked, Repository, calling
from irflow.adapters.deadline import Deadline
from irflow.core.errors import IrflowError, RepositoryLocked

_STALE = timedelta(minutes=30)
"""A lock that was not renewed for so long counts as stale for restic, whosever it is (staleTimeout in its lock.go)."""


def explain(repository: Repository, locked: Locked, deadline: Deadline) -> RepositoryLocked:
    """The error for a repository that is locked; if only dead processes of ours held it, it is free now."""
    locks = _locks(repository, deadline)
    others = [one for one in locks if not (_ours(one) and _name(one) is None)]
    if others or not _unlock(repository, locks, deadline):
        told = ", ".join(
            f"process {one.get('pid')} on {one.get('hostname')} since {one.get('time')}" for one in others or locks
        )
        return RepositoryLocked(
            f"the backup repository is locked by {told}", where=repository.name,
            hint="Wait for it to end; if it is dead there: restic unlock",
        )  # fmt: skip
    return RepositoryLocked(
        f"a dead process had locked the repository: {locked.message}", where=repository.name,
        hint="Its lock is gone now; try again", cleared=True,
    )  # fmt: skip


def sweep(repository: Repository, deadline: Deadline) -> None:
    """Take away what dead processes of ours left. Raises IrflowError.

    restic 0.14 leaves its lock when it is interrupted within the 0.2 s after it made it.
    """
    folder = repository.folder
    if folder is not None and not any((folder / "locks").glob("*")):
        return  # spares two starts of restic
    _unlock(repository, _locks(repository, deadline), deadline)


def _unlock(repository: Repository, locks: list[dict[str, Any]], deadline: Deadline) -> bool:
    """`restic unlock`, if it takes away nothing but what dead processes of ours left. Whether it was called.

    It asks each process of this machine that holds a lock for a sign of life with a SIGHUP; restic itself ignores that,
    but a stranger that has got the number of a dead one would end of it.
    """
    if not any(_ours(one) and _name(one) is None for one in locks):
        return False
    if any(_ours(one) and _name(one) not in (None, "restic") for one in locks):
        return False
    if any(not _ours(one) and _age(one) >= _STALE for one in locks):
        return False
    with calling(repository, "unlock") as call:
        call.wait(deadline)
    return True


def _locks(repository: Repository, deadline: Deadline) -> list[dict[str, Any]]:
    with calling(repository, "list", "locks", "--no-lock") as call:
        names = call.wait(deadline).decode().split()
    found = []
    for name in names:
        with calling(repository, "cat", "lock", name, "--no-lock") as call:
            try:
                found.append(json.loads(call.wait(deadline)))
            except IrflowError:
                continue  # it was given back meanwhile
    return found


def _ours(lock: dict[str, Any]) -> bool:
    return bool(lock.get("hostname") == socket.gethostname() and lock.get("uid", 0) == os.getuid())


def _name(lock: dict[str, Any]) -> str | None:
    """The program that the lock's process runs on this machine, None when there is no such process."""
    try:
        return Path(f"/proc/{int(lock.get('pid', 0))}/comm").read_text().strip()
    except OSError:
        return None


def _age(lock: dict[str, Any]) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(lock["time"])
