"""Recording a host's keys in the inventory, with the person who agreed in the journal."""

from __future__ import annotations

from collections.abc import Sequence

from irflow.adapters.catalog import load_inventory
from irflow.adapters.catalog.edit import set_value
from irflow.config import Settings
from irflow.core.approvals import Operator
from irflow.core.errors import ConfigurationError
from irflow.core.identity import Deed, require
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.wiring import open_store


def record_host_keys(settings: Settings, name: str, keys: Sequence[str], operator: Operator) -> None:
    """Write `host_keys` of one host into inventory.yaml; comments and order stay. The journal goes first.

    Raises ConfigurationError when the host does not stand in the file, Refused when the operator may not.
    """
    require(operator, Deed.ENROL)
    path = settings.home / "inventory.yaml"
    if name not in load_inventory(path).hosts:
        raise ConfigurationError(f"no host {name} under hosts", where=str(path))
    with open_store(settings) as store:
        draft = Draft(Kind.HOST_ENROLLED, f"operator:{operator.name}", {"host": name, "keys": list(keys)}, target=name)
        store.transact(lambda tx: tx.append(SYSTEM, draft))
    set_value(path, ("hosts", name, "host_keys"), list(keys))
