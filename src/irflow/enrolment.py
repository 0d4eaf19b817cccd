"""Recording a host's keys in the inventory, with the person who agreed in the journal."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ruamel.yaml import YAML

from irflow.config import Settings
from irflow.core.approvals import Operator
from irflow.core.errors import ConfigurationError
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.wiring import open_store


def record_host_keys(settings: Settings, name: str, keys: Sequence[str], operator: Operator) -> None:
    """Write `host_keys` of one host into inventory.yaml; comments and order stay. The journal goes first.

    Raises ConfigurationError when the host does not stand in the file.
    """
    path = settings.home / "inventory.yaml"
    yaml = YAML()
    yaml.preserve_quotes = True
    data = yaml.load(path.read_text())
    if not data or name not in (data.get("hosts") or {}):
        raise ConfigurationError(f"no host {name} under hosts", where=str(path))
    data["hosts"][name]["host_keys"] = list(keys)
    with open_store(settings) as store:
        draft = Draft(Kind.HOST_ENROLLED, f"operator:{operator.name}", {"host": name, "keys": list(keys)}, target=name)
        store.transact(lambda tx: tx.append(SYSTEM, draft))
    new = path.with_suffix(".yaml.new")
    with new.open("w") as file:
        yaml.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
