"""What asks for secrets in a drill: Vault, a database, a cache and accounts of hosts, each with a value that leaks."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault
from irflow.core.model import Json
from irflow.lab import postgresql, redis_server, server
from irflow.lab.intruder import on_host
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.postgresql import LabDatabase
from irflow.lab.redis_server import LabCache

DATABASE, CACHE, LOGIN, BYSTANDER = "shop-db", "shop-cache", "shop-login", "audit-db"
KEY_ACCOUNT, PASSWORD_ACCOUNT = "deploy", "alice"
_FIELD = "value"
_POLICY = """\
path "auth/approle/role/shop/role-id" { capabilities = ["read"] }
path "auth/approle/role/shop/custom-secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/shop/secret-id" { capabilities = ["create", "update"] }
path "auth/approle/role/shop/secret-id/destroy" { capabilities = ["create", "update"] }
"""


def key_of(host: LabHost) -> str:
    """The name in secrets.yaml of the key that opens `deploy` there."""
    return f"deploy-key-{host.name}"


def password_of(host: LabHost) -> str:
    """The name in secrets.yaml of the password of `alice` there."""
    return f"alice-password-{host.name}"


@dataclass(frozen=True)
class Estate:
    """All of them, up. targets: what secrets.yaml says of each. first: the values that are there before the attack."""

    vault: EmbeddedVault
    database: LabDatabase
    cache: LabCache
    targets: Mapping[str, dict[str, Json]]
    first: Mapping[str, str]

    @property
    def leaked(self) -> tuple[str, ...]:
        """The names of those that the attacker has: all but one."""
        return tuple(name for name in self.targets if name != BYSTANDER)

    @property
    def settings(self) -> dict[str, object]:
        """The lines of irflow.yaml that lead to it."""
        login = self.vault.login
        return {"vault": {"url": login.url, "ca": str(login.ca), "role": str(login.role), "secret": str(login.secret)}}

    def write_inventory(self, home: Path) -> None:
        """Write secrets.yaml."""
        found = {
            name: {"reference": f"vault:{MOUNT}/{name}#{_FIELD}", "target": target}
            for name, target in self.targets.items()
        }
        (home / "secrets.yaml").write_text(json.dumps({"secrets": found}, indent=2) + "\n")

    def live(self, name: str) -> str:
        """What Vault says now: what whoever needs the secret reads."""
        found = self.vault.root().secrets.kv.v2.read_secret_version(
            name, mount_point=MOUNT, raise_on_deleted_version=True
        )
        value: str = found["data"]["data"][_FIELD]
        return value

    def login_opens(self, secret_id: str) -> bool:
        """Whether a secret-id lets an application into Vault."""
        role = (self.vault.home / "keys" / "shop.id").read_text()
        answer = self.vault.client("").adapter.post(
            "/v1/auth/approle/login", json={"role_id": role, "secret_id": secret_id}, raise_exception=False
        )
        return bool(isinstance(answer, dict) and answer.get("auth"))


def raise_estate(cleanup: ExitStack, lab: Lab, victims: tuple[LabHost, ...]) -> Estate:
    """Start the servers, make the accounts, put the first values there. Raises ServiceMissing, LabError."""
    vault = EmbeddedVault(server.folder(lab, "vault"), environment=server.mark(lab))
    vault.start()
    cleanup.callback(vault.stop)
    database = postgresql.start(lab)
    admin, first = {name: _password() for name in ("postgresql", "redis")}, _first_values(lab, victims)
    database.run("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}", "rotator", secret=admin["postgresql"])
    for role, name in (("shop", DATABASE), ("audit", BYSTANDER)):
        database.run("CREATE ROLE {} LOGIN PASSWORD {}", role, secret=first[name])
        database.run("GRANT {} TO {} WITH ADMIN OPTION", role, "rotator")
    database.run("GRANT pg_signal_backend TO {}", "rotator")
    cache = redis_server.start(
        lab,
        f"user default off\nuser rotator on >{admin['redis']} ~irflow:* &* +@all\n"
        f"user shop on >{first[CACHE]} ~* +get +set\n",
    )
    for host in victims:
        on_host(lab, host, "chpasswd", stdin=f"{PASSWORD_ACCOUNT}:{first[password_of(host)]}\n".encode())
    _fill(vault, admin, first)
    return Estate(vault, database, cache, _targets(database, cache, victims), first)


def _first_values(lab: Lab, victims: tuple[LabHost, ...]) -> dict[str, str]:
    values = {name: _password() for name in (DATABASE, CACHE, BYSTANDER)}
    for host in victims:
        values[key_of(host)] = lab.deploy_key.read_text()
        values[password_of(host)] = _password()
    return values


def _targets(database: LabDatabase, cache: LabCache, victims: tuple[LabHost, ...]) -> dict[str, dict[str, Json]]:
    def role(name: str) -> dict[str, Json]:
        return {
            "kind": "postgresql", "host": "127.0.0.1", "port": database.port, "role": name, "admin": "rotator",
            "admin_secret": f"vault:{MOUNT}/admin/postgresql#{_FIELD}",
        }  # fmt: skip

    found: dict[str, dict[str, Json]] = {
        DATABASE: role("shop"),
        CACHE: {
            "kind": "redis", "host": "127.0.0.1", "port": cache.port, "user": "shop", "admin": "rotator",
            "admin_secret": f"vault:{MOUNT}/admin/redis#{_FIELD}",
        },
        LOGIN: {"kind": "vault_secret_id", "role": "shop"},
        BYSTANDER: role("audit"),
    }  # fmt: skip
    for host in victims:
        found[key_of(host)] = {"kind": "authorized_key", "host": host.name, "account": KEY_ACCOUNT}
        found[password_of(host)] = {"kind": "unix_password", "host": host.name, "account": PASSWORD_ACCOUNT}
    return found


def _fill(vault: EmbeddedVault, admin: Mapping[str, str], first: dict[str, str]) -> None:
    """As the owner of the Vault would: the shop's own role, and every value under its name."""
    root = vault.root()
    root.sys.create_or_update_policy("irflow-shop", _POLICY)
    root.auth.approle.create_or_update_approle("irflow", token_policies=["irflow", "irflow-shop"])
    root.auth.approle.create_or_update_approle("shop", token_policies=["default"], token_ttl=3600)
    first[LOGIN] = root.auth.approle.generate_secret_id("shop")["data"]["secret_id"]
    for name, value in {**{f"admin/{name}": one for name, one in admin.items()}, **first}.items():
        root.secrets.kv.v2.create_or_update_secret(name, {_FIELD: value}, mount_point=MOUNT)
    role = root.auth.approle.read_role_id("shop")["data"]["role_id"]
    path = vault.home / "keys" / "shop.id"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(role)


def _password() -> str:
    return secrets.token_urlsafe(24)
