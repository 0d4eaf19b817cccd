"""The installation that flows run for, read once per process and again when its files have changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irflow.config import default_home
from irflow.shipped import shipped
from irflow.wiring import Configuration, load

_Signature = tuple[tuple[str, int, int], ...]


@dataclass
class _Read:
    """What was read last, and from which files."""

    home: Path | None = None
    signature: _Signature = ()
    configuration: Configuration | None = None


_read = _Read()


def use(home: Path) -> None:
    """Name the installation of this process and of those forked from it."""
    _read.home, _read.signature, _read.configuration = home, (), None


def configuration() -> Configuration:
    """The configuration as its files are now. Raises ConfigurationErrors."""
    home = _read.home or default_home()
    signature = _signature(home)
    if _read.configuration is None or signature != _read.signature:
        _read.configuration = load(home)
        _read.signature = signature
    return _read.configuration


def _signature(home: Path) -> _Signature:
    """Names, times and sizes of all YAML and templates that a configuration is read from."""
    folders = [home, *(home / kind for kind in ("playbooks", "runbooks", "templates"))]
    folders += [shipped(kind) for kind in ("playbooks", "runbooks")]
    files = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    found = []
    for path in files:
        if path.suffix in (".yaml", ".yml", ".j2"):
            stat = path.stat()
            found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(found))
