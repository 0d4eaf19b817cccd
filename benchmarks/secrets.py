"""How fast secrets are replaced: 500 documents beside a bare hvac loop of the same calls, and 50 PostgreSQL roles."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local
from typing import Any

from benchmarks.result import figure
from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.targets import open_target
from irflow.adapters.vault.documents import KvDocument
from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault, running
from irflow.adapters.vault.session import Session
from irflow.core.rotation import OnFailure, Rotator
from irflow.core.rotation_means import Means
from irflow.core.rotations import PARALLEL, each
from irflow.core.secret import SecretValue
from irflow.core.secret_inventory import ManagedSecret, SecretInventory
from tests.services.postgres import PostgresServer, running_postgres

DOCUMENTS, ROLES, ROUNDS = 500, 50, 3
RATIO_LIMIT, ROLES_LIMIT_S = 1.5, 5.0


def bench_secrets(directory: Path) -> list[dict[str, Any]]:
    """Measure with a Vault of its own. Returns rows of bench.json."""
    ratios, seconds, roles, gaps = [], [], [], []
    with running(directory / "vault") as vault:
        inventory = _documents(vault)
        for number in range(ROUNDS):
            bare = _bare(vault, list(inventory.secrets))
            ours = _rotated(vault, inventory, f"run-{number}")[0]
            ratios.append(ours / bare)
            seconds.append(ours)
        with _roles(vault, directory) as accounts:
            for number in range(ROUNDS):
                took, gap = _rotated(vault, accounts, f"run-{number}")
                roles.append(took)
                gaps += gap
    name = f"secrets: {DOCUMENTS} documents replaced and verified, {PARALLEL} at once"
    return [
        figure(name, seconds, "s"),
        figure(f"{name}, against bare hvac", ratios, "x", limit=RATIO_LIMIT),
        figure(f"secrets: {ROLES} PostgreSQL roles, both log-ins each", roles, "s", limit=ROLES_LIMIT_S),
        figure("secrets: a role's document is refused for", gaps, "s"),
    ]


def _documents(vault: EmbeddedVault) -> SecretInventory:
    names = [f"d{number}" for number in range(DOCUMENTS)]
    session = Session(vault.login, FileSecrets())
    made = {}
    for name in names:
        one = ManagedSecret(name=name, reference=f"vault:{MOUNT}/{name}#value", target={"kind": "document"})
        KvDocument(session, one.ref).begin(SecretValue(b"first"), {})
        made[name] = one
    return SecretInventory(secrets=made)


@contextmanager
def _roles(vault: EmbeddedVault, directory: Path) -> Iterator[SecretInventory]:
    with running_postgres() as server:
        (server.data / "pg_hba.conf").write_text("local all irflow trust\nlocal all all scram-sha-256\n")
        server.execute("SELECT pg_reload_conf()")
        admin = directory / "admin"
        admin.write_text("not asked for")
        admin.chmod(0o600)
        made = {f"r{number}": _role(vault, server, f"r{number}", admin) for number in range(ROLES)}
        yield SecretInventory(secrets=made)


def _role(vault: EmbeddedVault, server: PostgresServer, name: str, admin: Path) -> ManagedSecret:
    server.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'first'")
    target = {
        "kind": "postgresql", "host": str(server.socket), "role": name, "admin": "irflow",
        "admin_secret": f"file:{admin}",
    }  # fmt: skip
    one = ManagedSecret(name=name, reference=f"vault:{MOUNT}/pg/{name}#password", target=target)
    KvDocument(Session(vault.login, FileSecrets()), one.ref).begin(SecretValue(b"first"), {})
    return one


def _rotated(vault: EmbeddedVault, inventory: SecretInventory, run: str) -> tuple[float, list[float]]:
    """Seconds to replace and verify all, with a login of its own, and for how long each document was refused."""
    session, means = Session(vault.login, FileSecrets()), Means(FileSecrets())

    def rotator(one: ManagedSecret) -> Rotator:
        params = {key: value for key, value in one.target.items() if key != "kind"}
        target = open_target(one.kind, params, means)
        return Rotator(KvDocument(session, one.ref), target, OnFailure.ROLLBACK, time.monotonic)

    started = time.perf_counter()
    rotated = each(inventory, inventory.secrets, lambda one: rotator(one).rotate(run))
    verified = each(inventory, inventory.secrets, lambda one: rotator(one).verify())
    took = time.perf_counter() - started
    bad = [str(one.error) for one in (*rotated, *verified) if not one.good]
    if bad:
        raise RuntimeError(f"{len(bad)} failed: {bad[0]}")
    return took, [one.rotation.gap_s for one in rotated if one.rotation and one.rotation.gap_s is not None]


def _bare(vault: EmbeddedVault, names: list[str]) -> float:
    """Seconds for the same calls by hvac alone: read, check-and-set, metadata, destroy, and a read to verify."""
    role, secret = ((vault.home / "keys" / one).read_text() for one in ("role.id", "secret.id"))
    mine = local()
    token = vault.client("")
    token.auth.approle.login(role, secret)

    def kv() -> Any:
        if not hasattr(mine, "client"):
            mine.client = vault.client(token.token)
        return mine.client.secrets.kv.v2

    def replace(name: str) -> None:
        found = kv().read_secret_version(name, mount_point=MOUNT, raise_on_deleted_version=True)["data"]
        version, data = found["metadata"]["version"], {**found["data"], "value": secrets.token_hex(20)}
        kv().create_or_update_secret(name, data, cas=version, mount_point=MOUNT)
        about = kv().read_secret_metadata(name, mount_point=MOUNT)["data"]["versions"]
        old = [int(one) for one, state in about.items() if int(one) <= version and not state["destroyed"]]
        kv().destroy_secret_versions(name, old, mount_point=MOUNT)

    def verify(name: str) -> None:
        kv().read_secret_version(name, mount_point=MOUNT, raise_on_deleted_version=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        steps: tuple[Callable[[str], None], ...] = (replace, verify)
        for step in steps:
            list(pool.map(step, names))
    return time.perf_counter() - started
