"""A throw-away installation for a drill: configuration, inventory and keys around the lab's hosts."""

from __future__ import annotations

import base64
import json
import os
import pwd
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from irflow.lab.lab import Lab

SOURCE = "drill"


@dataclass(frozen=True)
class Installation:
    """Where the drill's irflow lives. webhook_key: the `whsec_` key that signs its alert."""

    home: Path
    webhook_key: str
    operators: tuple[str, ...]


def install(
    home: Path, lab: Lab, *, sabotage: str | None = None, settings: dict[str, object] | None = None
) -> Installation:
    """Write everything that an installation needs. The key never leaves 0600 files of this folder.

    sabotage: id of the step whose effect is skipped. settings: extra lines of irflow.yaml.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = home / "keys"
    keys.mkdir(exist_ok=True, mode=0o700)
    key = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    _private(keys / "drill.webhook", key)
    _private(keys / "responder", lab.responder_key.read_text())
    _yaml(
        home / "irflow.yaml",
        {
            "web_port": free_port(),
            "prefect_port": free_port(),
            "notify": {"channels": {"email": ["log"], "sms": ["log"]}},
            **({"sabotage": sabotage} if sabotage else {}),
            **(settings or {}),
        },
    )
    _yaml(
        home / "sources.yaml",
        {"sources": {SOURCE: {"kind": "standard", "auth": "hmac", "key": "file:keys/drill.webhook", "drill": True}}},
    )
    _yaml(
        home / "inventory.yaml",
        {
            "defaults": {
                "user": "root",
                "key": "file:keys/responder",
                "netns": str(lab.netns("responder") or "") or None,
                "management": list(lab.management_addresses),
                "groups": ["web"],
            },
            "caps": {"hosts": max(10, len(lab.hosts))},
            "hosts": {
                host.name: {
                    "address": host.address,
                    "port": host.port,
                    "host_keys": [host.host_key],
                    "aliases": [host.address6],
                }
                for host in lab.hosts
            },
        },
    )
    login = pwd.getpwuid(os.getuid()).pw_name
    people = {
        "first-responder": ["incident_commander", "technical_lead"],
        "second-responder": ["communications", "legal", "incident_commander"],
    }
    _yaml(
        home / "operators.yaml",
        {"operators": {name: {"login": login, "roles": roles} for name, roles in people.items()}},
    )
    return Installation(home, key, tuple(people))


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _yaml(path: Path, data: object) -> None:
    """JSON is YAML: no other writer needed."""
    path.write_text(json.dumps(data, indent=2) + "\n")
