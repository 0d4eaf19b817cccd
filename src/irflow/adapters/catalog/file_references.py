"""What a file path in a configuration file means: from the folder of that file, or a systemd credential."""

from __future__ import annotations

import os
from pathlib import Path

_FILE = "file:"


def reference_from(folder: Path, text: str) -> str:
    """A reference, made absolute from folder where it is one to a file.

    A bare name of a credential that systemd gave to this process means that one, wherever the file stands.
    """
    if not text.startswith(_FILE):
        return text
    name, credentials = text.removeprefix(_FILE), os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and "/" not in name and (Path(credentials) / name).exists():
        return f"{_FILE}{Path(credentials) / name}"
    return f"{_FILE}{path_from(folder, name)}"


def path_from(folder: Path, text: str | Path) -> Path:
    """A path, made absolute from folder."""
    return folder.absolute() / Path(text).expanduser()
