"""The catalogue: all playbooks and runbooks, shipped and local, read and checked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from irflow.adapters.catalog.check import ExpressionNames, Knowledge, check_playbook, check_runbook, overlaps
from irflow.adapters.catalog.model import validate
from irflow.adapters.catalog.yaml_file import YamlFile, parse_yaml, read_text
from irflow.core.action import Registry
from irflow.core.errors import ConfigurationError, ConfigurationErrors, Location
from irflow.core.inventory import Inventory
from irflow.core.planner import Catalog
from irflow.core.playbook import Playbook
from irflow.core.runbook import Runbook

M = TypeVar("M", Playbook, Runbook)

_parsed = lru_cache(maxsize=256)(parse_yaml)
"""When one file has changed, all are read anew, and the others need not be parsed again: a tenth of a second."""


@dataclass(frozen=True)
class LoadedCatalog(Catalog):
    """A catalogue that knows the file of each playbook."""

    expressions: ExpressionNames
    files: Mapping[str, YamlFile]


def load_catalog(
    *, playbooks: Sequence[Path], runbooks: Sequence[Path], actions: Registry, inventory: Inventory,
    expressions: ExpressionNames, templates: Sequence[str],
) -> LoadedCatalog:  # fmt: skip
    """Read every *.yaml of the folders; what stands in an earlier folder replaces what a later one has under its id.

    templates: names of the documents that exist. Raises ConfigurationErrors with all mistakes of all files.
    """
    errors: list[ConfigurationError] = []
    read_runbooks, broken = _folders(runbooks, "runbook", Runbook, errors)
    read_playbooks, _ = _folders(playbooks, "playbook", Playbook, errors)
    known = Knowledge(
        {name: one for name, (one, _) in read_runbooks.items()}, broken, actions, inventory, expressions, templates
    )
    for runbook, file in read_runbooks.values():
        errors += check_runbook(runbook, file, known)
    for playbook, file in read_playbooks.values():
        errors += check_playbook(playbook, file, known)
    errors += overlaps(list(read_playbooks.values()))
    if errors:
        raise ConfigurationErrors(list({str(error): error for error in errors}.values()))
    return LoadedCatalog(
        {name: one for name, (one, _) in read_playbooks.items()}, known.runbooks, actions, inventory, expressions,
        {name: file for name, (_, file) in read_playbooks.items()},
    )  # fmt: skip


def _folders(
    folders: Sequence[Path], key: Literal["playbook", "runbook"], model: type[M], errors: list[ConfigurationError]
) -> tuple[dict[str, tuple[M, YamlFile]], set[str]]:
    """What the folders hold by id, and the ids of files that could not be read."""
    found: dict[str, tuple[M, YamlFile]] = {}
    broken: set[str] = set()
    for folder in folders:
        here: dict[str, YamlFile] = {}
        for path in sorted(folder.glob("*.y*ml")) if folder.is_dir() else ():
            if path.suffix != ".yaml":
                errors.append(ConfigurationError("is not read", where=Location(str(path)), hint="Name it *.yaml"))
                continue
            try:
                file = _parsed(read_text(path), path)
            except ConfigurationErrors as wrong:
                errors += wrong.errors
                broken.add(path.stem)
                continue
            name = file.data.get(key) if isinstance(file.data, dict) else None
            if isinstance(name, str) and name in here:
                errors.append(file.error(f"{key} {name!r} is already in {here[name].path}", key))
                continue
            try:
                one = validate(file, model)
            except ConfigurationErrors as wrong:
                errors += wrong.errors
                broken.add(name if isinstance(name, str) else path.stem)
                continue
            here[str(name)] = file
            if str(name) not in found and str(name) not in broken:
                found[str(name)] = (one, file)
    return found, broken
