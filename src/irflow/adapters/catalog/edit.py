"""Changing one value in a YAML file that a person wrote; comments and order stay."""

from __future__ import annotations

import os
from pathlib import Path

from ruamel.yaml import YAML

from irflow.core.model import Json


def set_value(path: Path, keys: tuple[str, ...], value: Json) -> None:
    """Set the value under `keys`, durably and atomically; mappings that are not there yet are made on the way."""
    yaml = YAML()
    yaml.preserve_quotes = True
    data = yaml.load(path.read_text())
    parent = data
    for key in keys[:-1]:
        if parent.get(key) is None:
            parent[key] = {}
        parent = parent[key]
    parent[keys[-1]] = value
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        yaml.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
