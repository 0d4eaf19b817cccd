"""YAML to models: playbooks, runbooks, inventory, operators, settings; every mistake at its file:line, all at once."""

from irflow.adapters.catalog.file_references import reference_from
from irflow.adapters.catalog.load import LoadedCatalog, load_catalog
from irflow.adapters.catalog.model import load_yaml
from irflow.adapters.catalog.named import load_inventory, load_named, load_operators
from irflow.adapters.catalog.rehearsal import Rehearsal, dry_plan
from irflow.adapters.catalog.settings import load_settings

__all__ = [
    "LoadedCatalog",
    "Rehearsal",
    "dry_plan",
    "load_catalog",
    "load_inventory",
    "load_named",
    "load_operators",
    "load_settings",
    "load_yaml",
    "reference_from",
]
