"""Logging in over SSH with a password, as people do: OpenSSH's client is handed it when it asks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress

from irflow.core.errors import DeadlineExceeded
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.vantage import ssh_argv

_ANSWER = "#!/bin/sh\ncat '{}'\n"


def asking(ssh: Sequence[str]) -> list[str]:
    """An OpenSSH command line that uses a password and nothing else; SSH_ASKPASS says which."""
    options = ("BatchMode=no", "NumberOfPasswordPrompts=1", "PreferredAuthentications=password")
    # The first value of an option counts: ours stand before those of a login with a key.
    at = ssh.index("-F") + 2
    return [*ssh[:at], *(part for one in options for part in ("-o", one)), *ssh[at:]]


def password_opens(lab: Lab, host: LabHost, who: str, user: str, password: str, *, timeout_s: float = 8.0) -> bool:
    """Whether a password opens an account of a host. It is in no argument and no environment."""
    program = lab.layout.files / f"ask-{secrets.token_hex(8)}"
    answer = program.with_suffix(".answer")
    try:
        for path, text, mode in ((answer, password + "\n", 0o600), (program, _ANSWER.format(answer), 0o700)):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
                file.write(text)
        ssh = asking(ssh_argv(lab, host, who, user=user, connect_s=int(timeout_s)))
        argv = ["env", f"SSH_ASKPASS={program}", "SSH_ASKPASS_REQUIRE=force", *ssh, "true"]
        with suppress(DeadlineExceeded):
            return lab.run_from(who, argv, timeout_s=timeout_s).returncode == 0
        return False
    finally:
        for path in (program, answer):
            path.unlink(missing_ok=True)
