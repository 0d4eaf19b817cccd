"""The `import:` part of inventory.yaml: what to read, and what was read from it last time."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from irflow.adapters.catalog.imports import ansible, ssh_config
from irflow.core.errors import ConfigurationError
from irflow.core.journal import digest
from irflow.core.model import Json, Noun

Entries = dict[str, dict[str, Json]]
"""Host name -> fields of core.inventory.Host, as they would stand under `hosts` in inventory.yaml."""


class Import(Noun):
    """One foreign file. hosts: names or patterns (`web-*`) of those to take; others are left out."""

    path: Path
    hosts: tuple[str, ...] = ("*",)


class SshConfigImport(Import):
    """An OpenSSH client configuration. known_hosts: file from which accepted host keys are taken."""

    known_hosts: Path | None = None


class Imports(Noun):
    """What inventory.yaml imports."""

    ansible: Import | None = None
    ssh_config: SshConfigImport | None = None


def imported(imports: Imports, folder: Path) -> Entries:
    """The hosts of all imports; of a host that both have, ssh_config's fields come first.

    folder: of inventory.yaml; paths are relative to it, and what was read is kept in its `state` folder.
    Raises ConfigurationError naming the file that cannot be read.
    """
    found: Entries = {}
    if imports.ansible:
        path = _absolute(imports.ansible.path, folder)
        found |= _chosen(imports.ansible, _kept(folder, "ansible", ansible.files(path), lambda: ansible.read(path)))
    if imports.ssh_config:
        path, known = _absolute(imports.ssh_config.path, folder), imports.ssh_config.known_hosts
        keys = _absolute(known, folder) if known else None
        files = [*ssh_config.files(path), *([keys] if keys else [])]
        read = _kept(folder, "ssh-config", files, lambda: ssh_config.read(path, keys))
        for name, fields in _chosen(imports.ssh_config, read).items():
            found[name] = {**found.get(name, {}), **fields}
    return found


def _absolute(path: Path, folder: Path) -> Path:
    whole = folder.absolute() / path.expanduser()
    if not whole.exists():
        raise ConfigurationError(f"no file {whole}", hint="Mend the path, or remove the import")
    return whole


def _chosen(wanted: Import, entries: Entries) -> Entries:
    return {
        name: fields for name, fields in entries.items() if any(fnmatch.fnmatchcase(name, one) for one in wanted.hosts)
    }


def _kept(folder: Path, kind: str, files: Iterable[Path], read: Callable[[], Entries]) -> Entries:
    """What was read when the files were last as they are now; else read them, and keep that."""
    stamp = digest([[str(path), str(path.stat().st_mtime_ns), path.stat().st_size] for path in files])
    kept = folder / "state" / f"import-{kind}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(kept.read_text())
        if before["stamp"] == stamp:
            return dict(before["hosts"])
    entries = read()
    with contextlib.suppress(OSError):  # an unwritable folder costs time, nothing else
        new = kept.with_name(f"{kept.name}.{os.getpid()}")
        new.write_text(json.dumps({"stamp": stamp, "hosts": entries}))
        new.replace(kept)
    return entries
