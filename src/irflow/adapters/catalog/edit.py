"""Changing values in a YAML file that a person wrote; comments and order stay."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from irflow.core.model import Json


def set_value(path: Path, keys: tuple[str, ...], value: Json) -> None:
    """Set the value under `keys`, durably and atomically; mappings that are not there yet are made on the way."""

    def change(data: Any) -> None:
        parent = data
        for key in keys[:-1]:
            if parent.get(key) is None:
                parent[key] = {}
            parent = parent[key]
        parent[keys[-1]] = value

    with _alone(path):
        _replace(path, _changed(path, change), lambda _: None)


Check = Callable[[Path], object]
"""Reads the file as it would be, under another name, and raises when it is not valid; then nothing changes."""


def set_entry(path: Path, key: str, name: str, fields: Mapping[str, Json], check: Check) -> None:
    """Set fields of `KEY: {NAME: {...}}`, durably and atomically; what else the entry has stays."""

    def change(data: Any) -> None:
        if not data.get(key):
            data[key] = CommentedMap()
        if not data[key].get(name):
            data[key][name] = CommentedMap()
        data[key][name].update({one: _short(value) for one, value in fields.items()})

    with _alone(path):
        _replace(path, _changed(path, change), check)


def remove_entry(path: Path, key: str, name: str, check: Check) -> None:
    """Take `KEY: {NAME: ...}` away, durably and atomically."""

    def change(data: Any) -> None:
        del data[key][name]

    with _alone(path):
        _replace(path, _without_lines(path, key, name) or _changed(path, change), check)


def _short(value: Json) -> Json:
    """A list on one line, as people write them."""
    if not isinstance(value, list):
        return value
    items = CommentedSeq(value)
    items.fa.set_flow_style()
    return items


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    return yaml


def _changed(path: Path, change: Callable[[Any], None]) -> Callable[[Any], None]:
    """What writes the file's data after the change."""
    yaml = _yaml()
    data = yaml.load(path.read_text())
    if data is None:
        data = CommentedMap()
    change(data)
    return lambda file: yaml.dump(data, file)


def _without_lines(path: Path, key: str, name: str) -> Callable[[Any], None] | None:
    """What writes the file without an entry in block style; None where it stands otherwise.

    ruamel.yaml takes a comment before the next entry for a part of this one, and would delete it too.
    """
    text = path.read_text()
    data = _yaml().load(text)
    entries = data[key]
    if entries.fa.flow_style() or data.fa.flow_style() or len(entries) < 2:
        return None
    lines = text.splitlines(keepends=True)
    first, column = entries.lc.key(name)
    last = first + 1
    while last < len(lines) and _inside(lines[last], column):
        last += 1
    kept = "".join(lines[:first] + lines[last:])
    del entries[name]
    return (lambda file: file.write(kept)) if _yaml().load(kept) == data else None


def _inside(line: str, column: int) -> bool:
    """Whether a line belongs to the entry whose key stands at a column."""
    return len(line) - len(line.lstrip()) > column and bool(line.strip())


def _replace(path: Path, write: Callable[[Any], None], check: Callable[[Path], object]) -> None:
    new = path.with_name(path.name + ".new")
    mode = stat.S_IMODE(path.stat().st_mode)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        write(file)
        file.flush()
        os.fsync(file.fileno())
    try:
        check(new)
    except BaseException:
        new.unlink()
        raise
    new.replace(path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other change at the same time; the lock is on the folder, so that nothing is left lying there."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
