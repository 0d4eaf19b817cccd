"""What the SSH tests send to lab hosts, and the shell and keys they use."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell
from irflow.core.inventory import Host, Inventory
from irflow.lab import inventory
from irflow.lab.lab import Lab

SCRIPTS = {
    "who.sh": 'hostname; id -u; echo "$IRFLOW_CONNECTION"; for one; do printf "[%s]\\n" "$one"; done',
    # The parent of the script's shell is the sshd process that serves this connection.
    "sshd.sh": "echo $PPID",
    "wait.sh": "echo started >/run/waits; sleep 60",
    "long_nap.sh": "sleep 7",
    "nap.sh": "sleep 0.3; hostname",
}


def shell_for(hosts: Iterable[Host], **how: Any) -> SshShell:
    """A shell that knows these hosts, and the scripts above."""
    known = Inventory(hosts={host.name: host for host in hosts})
    return SshShell(FileSecrets(), known, scripts=lambda name: SCRIPTS[name].encode() + b"\n", **how)


def host_of(lab: Lab, index: int, **changes: Any) -> Host:
    """A lab host as the inventory describes it, with some of that changed."""
    return inventory.entries(lab)[index].model_copy(update=changes)


def new_key(folder: Path, name: str = "key") -> Path:
    """A private key that no host knows."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path


def certify(lab: Lab, key: Path, *, principal: str = "root", validity: str = "-1m:+5m") -> Path:
    """A user certificate for a key, from the authority that lab hosts trust."""
    assert lab.user_ca is not None
    subprocess.run(
        ["ssh-keygen", "-q", "-s", lab.user_ca, "-I", "test", "-n", principal, "-V", validity, f"{key}.pub"], check=True
    )
    return key.with_name(f"{key.name}-cert.pub")
