"""An Ansible inventory, read by `ansible-inventory` (package ansible-core, extra `irflow[ansible]`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.model import Json

READ_S = 60.0
_OVER_SSH = (None, "ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh")
_JUMP = re.compile(r"(?:-J\s*|ProxyJump[= ])([A-Za-z0-9_.-]+)")
_FIELDS = {
    "address": ("ansible_host", "ansible_ssh_host"), "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"), "key": ("ansible_ssh_private_key_file", "ansible_private_key_file"),
}  # fmt: skip


def files(path: Path) -> list[Path]:
    """What `ansible-inventory` reads for this inventory: itself, and the variables beside it."""
    roots = [path, *(path.parent / name for name in ("group_vars", "host_vars"))]
    return sorted(one for root in roots for one in ([root] if root.is_file() else root.rglob("*")) if one.is_file())


def read(path: Path) -> dict[str, dict[str, Json]]:
    """The hosts that are reached over SSH. Raises ServiceMissing, and ConfigurationError with what Ansible says.

    Only files are read: an inventory that is a program, or a plugin that asks a cloud, is refused, because this runs
    with the responder's rights and must give the same answer while the network is under attack.
    """
    if path.is_file() and os.access(path, os.X_OK) and path.read_bytes()[:2] == b"#!":
        hint = "Write down what it says: ansible-inventory -i PROGRAM --list --yaml --output hosts.yaml"
        raise ConfigurationError(f"{path} is a program, not a file with hosts", hint=hint)
    listing = _listing(path)
    groups = _groups(listing)
    found: dict[str, dict[str, Json]] = {}
    for name, variables in sorted(_all_hosts(listing).items()):
        if variables.get("ansible_connection") in _OVER_SSH:
            found[name] = _fields(path, name, variables) | {"groups": groups.get(name, [])}
    for fields in found.values():
        if fields.get("jump") not in found:
            fields.pop("jump", None)
    return found


def _listing(path: Path) -> dict[str, Any]:
    program = shutil.which("ansible-inventory", path=os.pathsep.join((str(Path(sys.executable).parent), os.defpath)))
    if program is None:
        raise ServiceMissing("ansible-inventory is not installed", hint="Install it: pip install 'irflow[ansible]'")
    with tempfile.TemporaryDirectory(prefix="irflow-ansible-") as empty:
        environment = {
            "PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": empty, "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
            "ANSIBLE_INVENTORY_ENABLED": "ini,yaml",
        }  # fmt: skip
        try:
            done = subprocess.run(
                [program, "-i", str(path), "--list"], env=environment, cwd=empty, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=READ_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ConfigurationError(f"ansible-inventory did not end within {READ_S:.0f} s", where=str(path)) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-500:]
        raise ConfigurationError(f"ansible-inventory: {said}", where=str(path), hint="Mend it there")
    listing: dict[str, Any] = json.loads(done.stdout)
    return listing


def _all_hosts(listing: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every host with its variables; one without any stands in its groups alone."""
    named: dict[str, dict[str, Any]] = {name: {} for group in listing.values() for name in group.get("hosts", ())}
    return {**named, **listing.get("_meta", {}).get("hostvars", {})}


def _groups(listing: dict[str, Any]) -> dict[str, list[str]]:
    """The groups of each host, those above its own too."""
    above: dict[str, set[str]] = {}
    for name, group in listing.items():
        for child in group.get("children", ()):
            above.setdefault(child, set()).add(name)

    def ancestors(name: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        if name not in seen:
            yield name
            for parent in above.get(name, ()):
                yield from ancestors(parent, seen | {name})

    found: dict[str, set[str]] = {}
    for name, group in listing.items():
        for host in group.get("hosts", ()):
            found.setdefault(host, set()).update(ancestors(name))
    return {host: sorted(names - {"all", "ungrouped"}) for host, names in found.items()}


def _fields(path: Path, name: str, variables: dict[str, Any]) -> dict[str, Json]:
    fields: dict[str, Json] = {"address": name}
    for field, keys in _FIELDS.items():
        value = next((variables[key] for key in keys if variables.get(key) not in (None, "")), None)
        if value is None:
            continue
        if "{{" in str(value):
            hint = f"Write {field} of {name} into inventory.yaml"
            raise ConfigurationError(f"{field} of {name} is a template: {value}", where=str(path), hint=hint)
        fields[field] = value
    if "key" in fields:
        fields["key"] = f"file:{path.parent / Path(str(fields['key'])).expanduser()}"
    if "port" in fields:
        fields["port"] = int(fields["port"])
    if (
        str(variables.get("ansible_become", "")).lower() in ("true", "yes", "1")
        and fields.get("user", "root") != "root"
    ):
        fields["sudo"] = True
    jump = _JUMP.search(str(variables.get("ansible_ssh_common_args", "")))
    return fields | ({"jump": jump[1]} if jump else {})
