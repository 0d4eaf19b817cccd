"""Lab hosts that believe an SSH authority of a real Vault, and a thief who has that authority's private key."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.documents import EnginePlace
from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault
from irflow.adapters.vault.session import Session
from irflow.core.secret import SecretRef
from irflow.lab import inventory
from irflow.lab.intruder import works
from irflow.lab.lab import Lab
from irflow.lab.vantage import ssh_argv
from tests.services.on_host import on
from tests.services.rotation_hands import tell

FILE, WHO, HOSTS = "/etc/ssh/user_ca.pub", "alice", ("web-1", "web-2")
SIGNS = {"key_type": "ca", "allow_user_certificates": True, "allowed_users": f"{WHO},root", "ttl": "5m"}
"""A role of the SSH engine."""


@dataclass
class Site:
    """Hosts that believe Vault's authority, and a thief who has its private key."""

    lab: Lab
    vault: EmbeddedVault
    process: subprocess.Popen[str]
    folder: Path
    ref: SecretRef = field(default_factory=lambda: SecretRef("vault", f"{MOUNT}/rotations/{uuid.uuid4().hex}", "place"))

    def __post_init__(self) -> None:
        self.authority = _new_key(self.folder, "authority")
        self.public = " ".join(Path(f"{self.authority}.pub").read_text().split()[:2])
        root = self.vault.root()
        root.write_data("ssh/config/ca", data={
            "private_key": self.authority.read_text(), "public_key": self.public, "generate_signing_key": False,
        })  # fmt: skip
        self.old = self.default()
        for host in self.lab.hosts:
            on(self.lab, host, f"rm -f /var/lib/irflow/ssh_ca*; cat >{FILE}", f"# by hand\n{self.public}\n".encode())
        self.thief = self.certified("thief", lambda key: subprocess.run(
            ["ssh-keygen", "-q", "-s", self.authority, "-I", "x", "-n", WHO, "-V", "-5m:+1h", f"{key}.pub"], check=True
        ))  # fmt: skip

    def certified(self, name: str, sign: Callable[[Path], object]) -> Path:
        key = _new_key(self.folder, name)
        sign(key)
        return key

    def hosts(self, **changes: Any) -> list[dict[str, Any]]:
        return [
            one.model_copy(update=changes.get(one.name.replace("-", "_"), {})).model_dump(mode="json")
            for one in inventory.entries(self.lab)
        ]  # fmt: skip

    def rotate(
        self, run: str, *, fault: str = "", changes: int = 0, hosts: dict[str, Any] | None = None, **params: Any
    ) -> dict[str, Any]:
        params = {"hosts": HOSTS, "user": WHO, "role": "responder", "file": FILE, **params}
        return tell(
            self.process, self.vault, ref=str(self.ref), kind="ssh_ca", params=params, run=run, broken=False,
            fault=fault and f"after:{fault}", changes=changes, on_failure="rollback",
            means={"hosts": self.hosts(**(hosts or {}))},
        )  # fmt: skip

    def default(self) -> str:
        found: str = self.vault.root().read("ssh/config/issuers")["data"]["default"]
        return found

    def issuers(self) -> dict[str, str]:
        """Public keys of all authorities in Vault, by id."""
        about = self.vault.root().list("ssh/issuers")["data"]["key_info"]
        return {one: info["public_key"].strip() for one, info in about.items()}

    def gets_in(self, key: Path, index: int) -> bool:
        return works(self.lab, ssh_argv(self.lab, self.lab.hosts[index], "attacker", user=WHO, key=key), 8.0)

    def user_gets_in(self) -> bool:
        """Whether somebody who asks Vault for a certificate now logs in on all hosts."""

        def sign(key: Path) -> None:
            public = Path(f"{key}.pub").read_text()
            said = self.vault.root().write_data(
                "ssh/sign/responder", data={"public_key": public, "valid_principals": WHO}
            )["data"]
            Path(f"{key}-cert.pub").write_text(said["signed_key"])

        key = self.certified(uuid.uuid4().hex, sign)
        return self.where(key) == set(HOSTS)

    def where(self, key: Path) -> set[str]:
        """The hosts that a key with its certificate opens."""
        with ThreadPoolExecutor() as pool:
            opened = list(pool.map(lambda index: self.gets_in(key, index), range(len(HOSTS))))
        return {name for name, one in zip(HOSTS, opened, strict=True) if one}

    def believed(self, index: int) -> list[str]:
        lines = on(self.lab, self.lab.hosts[index], f"cat {FILE}").splitlines()
        return [" ".join(one.split()[:2]) for one in lines if one and not one.startswith("#")]

    def ended(self) -> None:
        """Fails unless the old authority opens nothing, and the new one everything."""
        assert not self.where(self.thief)
        assert self.user_gets_in()
        new = self.default()
        assert new != self.old
        assert self.old not in self.issuers()
        assert [self.believed(index) for index in range(len(self.lab.hosts))] == [[self.issuers()[new]]] * 2
        document = EnginePlace(Session(self.vault.login, FileSecrets()), self.ref).read()
        assert document.old is None


def _new_key(folder: Path, name: str) -> Path:
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path
