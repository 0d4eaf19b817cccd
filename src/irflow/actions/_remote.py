"""How actions call the scripts of remote/ and read what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

from irflow import remote
from irflow.core.action import Context
from irflow.core.errors import RemoteFailed
from irflow.core.ports import Completed

_CALL_S = 30.0
"""The most one call gets of the step's time; the longest honest one, over a slow line, takes a few seconds."""

# Exit statuses of the scripts (sysexits.h), and what to do about them.
HINTS = {
    64: "The script was called with something it refuses; look at the host's management and allow in the inventory",
    65: "The host refused the change; look at the message",
    69: "Install nftables on the host, or cut it off at the switch",
    73: "Look at free space and permissions of /var/lib/irflow on the host",
    75: "Look at the host again; another process may have taken over",
    77: "Log in as root, or give the account `sudo -n` and set sudo: true in the inventory",
}


def call(
    context: Context,
    script: str,
    args: Sequence[str],
    *,
    fresh: bool = False,
    max_output: int = 1 << 20,
    timeout_s: float = _CALL_S,
) -> Completed:
    """Run a script on the step's host and return what it said.

    Raises RemoteFailed with its status and a hint when it fails, and whatever core.ports.Shell.run raises.
    """  # fmt: skip
    host = context.the_host()
    done = context.ports.shell.run(
        host, script, args, timeout_s=min(timeout_s, context.left()), fresh=fresh, max_output=max_output, check=False
    )
    if done.status != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1][:500] if said else "it said nothing"
        raise RemoteFailed(
            f"{script} {args[0] if args else ''} ended with status {done.status}: {reason}", where=host.name,
            hint=HINTS.get(done.status, ""), status=done.status,
        )  # fmt: skip
    return done


def fields(text: str) -> dict[str, str]:
    """The key=value lines of an answer; other lines are skipped, of equal keys the last one counts."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value for key, _, value in pairs}


@cache
def script_sha256(script: str) -> str:
    """SHA-256 of a script as it is sent to hosts; part of every custody entry."""
    return hashlib.sha256(remote.text(script)).hexdigest()
