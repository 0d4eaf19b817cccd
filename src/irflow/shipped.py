"""Where the runbooks, playbooks, policies and document templates that come with irflow are."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from irflow.core.errors import ConfigurationError


def shipped(kind: str) -> Path:
    """The folder of shipped `runbooks`, `playbooks`, `secrets` (Vault policies) or `templates`.

    A wheel holds the YAML inside the package (`irflow/shipped/`), a source checkout at its root.
    Raises ConfigurationError when the folder is nowhere.
    """
    package = files("irflow")
    inside = package / "templates" if kind == "templates" else package / "shipped" / kind
    if inside.is_dir():
        with as_file(inside) as folder:
            return folder
    with as_file(package) as here:
        checkout = here.parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / kind).is_dir():
        return checkout / kind
    raise ConfigurationError(
        f"the {kind} that come with irflow are missing", where=str(inside), hint="Install irflow again"
    )
