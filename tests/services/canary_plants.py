"""Values of every kind, planted in an installation before it starts, and read back where only their owner looks."""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.adapters.vault import embedded
from irflow.core.secret import SecretValue
from irflow.drill.estate import Estate

SEED, MAIL = "keyring-seed", "mail"
_HELD = frozenset({"value", "new", "old", "secret_id", "role_id", "client_token"})


def plant(home: Path, mail_port: int) -> dict[str, str]:
    """A keyring with two entries, a backup's password, an Alertmanager's token; all by name.

    mail_port: of the service that messages go to.
    """
    made = {name: secrets.token_urlsafe(24) for name in ("keyring.key", "backup.password", "alertmanager.token")}
    for name, value in made.items():
        with os.fdopen(os.open(home / "keys" / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value)
    ring, password, seed = keyring(home), secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    url = f"json://team:{password}@127.0.0.1:{mail_port}/{secrets.token_urlsafe(16)}"
    ring.set_password("irflow", MAIL, url)
    ring.set_password("irflow", SEED, seed)
    _change(home / "irflow.yaml", {
        "keyring": {"backend": "encrypted-file"}, "backup": {"password": "file:keys/backup.password"},
        "notify": {"channels": {"email": ["log", f"keyring:irflow/{MAIL}"], "sms": ["log"]}},
    })  # fmt: skip
    source = {"kind": "alertmanager", "auth": "bearer", "key": "file:keys/alertmanager.token"}
    sources = json.loads((home / "sources.yaml").read_text())["sources"]
    _change(home / "sources.yaml", {"sources": {**sources, "alertmanager": source}})
    return {**made, "keyring's URL": url, "password in the keyring's URL": password, "keyring's seed": seed}


def keyring(home: Path) -> EncryptedFileKeyring:
    """The one that was planted."""
    key = (home / "keys" / "keyring.key").read_text().strip()
    return EncryptedFileKeyring(home / "keys" / "keyring", lambda: SecretValue(key.encode()))


def in_keyring(home: Path) -> dict[str, str]:
    """What it holds now."""
    ring = keyring(home)
    return {f"keyring's {user}": str(ring.get_password(*name)) for name in ring.list_credentials() for user in name[1:]}


def look_after(patch: pytest.MonkeyPatch) -> None:
    """Have secrets.yaml of the drill name the keyring's seed too."""
    write = Estate.write_inventory

    def more(self: Estate, home: Path) -> None:
        write(self, home)
        found = json.loads((home / "secrets.yaml").read_text())["secrets"]
        seed = {"reference": f"keyring:irflow/{SEED}", "target": {"kind": "document"}}
        _change(home / "secrets.yaml", {"secrets": {**found, SEED: seed}})

    patch.setattr(Estate, "write_inventory", more)


def overhear(patch: pytest.MonkeyPatch) -> None:
    """Have the drill's Vault write its audit log with every value as it is; see heard."""
    patch.setattr(embedded, "_CONFIG", embedded._CONFIG.replace('mode = "0600"', 'mode = "0600"\n    log_raw = "true"'))


def heard(audit: Path) -> dict[str, str]:
    """Every value that ever went to this Vault or came from it: live, staged, given up; tokens of all processes."""
    found: dict[str, str] = {}
    for line in audit.read_text().splitlines():
        entry = json.loads(line)
        for name, value in _leaves(entry):
            found.setdefault(value, f"{name} of {entry.get('request', {}).get('path')} in Vault")
    return {f"{name}, {number}": value for number, (value, name) in enumerate(found.items())}


def _leaves(entry: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(entry, dict):
        for key, one in entry.items():
            yield from _leaves(one, key)
    elif isinstance(entry, list):
        for one in entry:
            yield from _leaves(one, name)
    elif isinstance(entry, str) and name in _HELD and entry:
        yield name, entry


@contextmanager
def mailbox() -> Iterator[tuple[ThreadingHTTPServer, list[str]]]:
    """A service that takes messages, and the headers by which they came."""
    came: list[str] = []

    class Box(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(str(self.headers.get("Authorization")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Box) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server, came
        finally:
            server.shutdown()
            thread.join()


def _change(path: Path, data: Mapping[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **data}, indent=2) + "\n")
