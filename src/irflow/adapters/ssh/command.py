"""The command line that a script runs under, and where scripts come from."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from irflow import remote
from irflow.core.errors import ConfigurationError
from irflow.core.inventory import Host
from irflow.core.secret import SecretValue

_ARGUMENT = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]-]*")
_NAME = re.compile(r"[a-z0-9_]+\.sh")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def command_line(host: Host, args: Sequence[str]) -> str:
    """What is given to the account's login shell; irflow/remote/__init__.py says what scripts may rely on.

    The login shell fills in $SSH_CONNECTION, because sudo takes it away; no alert text is ever part of the line.
    Raises ConfigurationError for an argument with other characters than core.ports.Shell.run allows.
    """
    for argument in args:
        if not _ARGUMENT.fullmatch(argument):
            raise ConfigurationError(f"refusing to send the argument {argument!r}", where=host.name)
    words = " ".join(f"'{argument}'" for argument in args)
    environment = f'PATH={PATH} LC_ALL=C TZ=UTC HOME=/root IRFLOW_CONNECTION="$SSH_CONNECTION"'
    root = "env LC_ALL=C sudo -n -- " if host.sudo else ""  # the locale: its refusals are read
    return f"umask 077; exec {root}env -i {environment} sh -s -- {words}".rstrip()


def with_secret(script: bytes, secret: SecretValue | None) -> bytes:
    """The script, with a secret in its variable `secret`: what comes on standard input is in no list of processes."""
    if secret is None:
        return script
    return b"secret=" + base64.urlsafe_b64encode(secret.reveal()) + b"\n" + script


def text_of(name: str) -> bytes:
    """The text of a script of irflow.remote. Raises ConfigurationError when there is none of that name."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"not the name of a remote script: {name!r}")
    try:
        return remote.text(name)
    except FileNotFoundError:
        raise ConfigurationError(f"irflow has no remote script {name}", hint="Is the installation complete?") from None
