"""Locks that dead processes of this machine left in a repository; nobody else's are ever taken away."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from irflow.adapters.backup_restic.program import Locked, Repository, calling
from irflow.adapters.deadline import Deadline
from irflow.core.errors import IrflowError, RepositoryLocked


def explain(repository: Repository, locked: Locked, deadline: Deadline) -> RepositoryLocked:
    """The error for a repository that is locked; when every lock was left by a dead process of ours, they are gone now.

    `restic unlock` asks the process of a lock for a sign of life with a SIGHUP, which would end a stranger that has got
    its number since; so it is called only when there is no such process.
    """
    locks = _locks(repository, deadline)
    others = [one for one in locks if not _ours_and_dead(one)]
    if others:
        told = ", ".join(f"process {one.get('pid')} on {one.get('hostname')} since {one.get('time')}" for one in others)
        return RepositoryLocked(
            f"the backup repository is locked by {told}", where=repository.name,
            hint="Wait for it to end; if it is dead there: restic unlock",
        )  # fmt: skip
    with calling(repository, "unlock") as call:
        call.wait(deadline)
    return RepositoryLocked(
        f"a dead process had locked the repository: {locked.message}", where=repository.name,
        hint="Its lock is gone now; try again", cleared=True,
    )  # fmt: skip


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


def _ours_and_dead(lock: dict[str, Any]) -> bool:
    mine = lock.get("hostname") == socket.gethostname() and lock.get("uid", 0) == os.getuid()
    return mine and not Path(f"/proc/{int(lock.get('pid', 0))}").exists()
