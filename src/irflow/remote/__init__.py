"""POSIX sh scripts that run on targets, streamed over standard input to `sh -s -- ARGS`; nothing is installed there.

What a script may rely on, whatever the account's login shell and profile say:

- It runs as root; through `sudo -n` where the inventory says `sudo: true`.
- The environment is empty but for
  - `PATH=/usr/sbin:/usr/bin:/sbin:/bin`, `LC_ALL=C`, `TZ=UTC`, `HOME=/root`,
  - `IRFLOW_CONNECTION`, "client_ip client_port server_ip server_port" of the SSH connection: $SSH_CONNECTION as sshd
    set it, which sudo would have taken away. Behind a jump host the client is the jump host.
- umask 077.
- Where the caller hands a secret over, `secret` holds it, base64url: the first line of what comes on standard input.
- Every argument consists of `[A-Za-z0-9_@%+=:,./[]-]` alone.
- Standard input is the script itself: a command that reads it must be given `</dev/null`.
- Standard output comes back whole up to a cap, of standard error the last 64 KiB.
- The call ends when the script has ended and everything that holds its output open has closed it.

A script that is cut off at its deadline is not killed: it runs on until it writes or reads.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

WITH_COMMON = b"\n. ./common.sh\n"
"""The line of a script at which common.sh is put in: what is sent must need nothing from the host."""


@cache
def text(name: str) -> bytes:
    """A script as it is sent to hosts. Raises FileNotFoundError when there is none of that name."""
    script = (files(__name__) / name).read_bytes()
    if WITH_COMMON not in script:
        return script
    return script.replace(WITH_COMMON, b"\n" + (files(__name__) / "common.sh").read_bytes(), 1)
