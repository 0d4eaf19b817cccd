"""irflow.yaml under IRFLOW_HOME: the settings of one installation."""

from __future__ import annotations

import os
from pathlib import Path

from irflow.adapters.catalog.model import validate
from irflow.adapters.catalog.yaml_file import YamlFile, read_yaml
from irflow.config import Settings
from irflow.core.errors import ConfigurationError, ConfigurationErrors
from irflow.core.secret import SecretRef


def load_settings(home: Path) -> Settings:
    """Read `irflow.yaml` under home; without one, the defaults. IRFLOW_DATABASE_URL goes before `database_url`.

    Raises ConfigurationErrors; a channel's text is never repeated, it may hold a password.
    """
    path = home / "irflow.yaml"
    file = read_yaml(path) if path.exists() else YamlFile(path, {}, {})
    data = {} if file.data is None else file.data
    if not isinstance(data, dict):
        raise ConfigurationErrors([file.error("not a mapping")])
    if "home" in data:
        raise ConfigurationErrors([file.error("unknown key 'home'", "home", hint="Set IRFLOW_HOME instead")])
    given = {**data, "home": home}
    if os.environ.get("IRFLOW_DATABASE_URL"):
        given["database_url"] = os.environ["IRFLOW_DATABASE_URL"]
    for name in ("web_tls_certificate", "web_tls_key"):
        if isinstance(given.get(name), str):
            given[name] = str(home / Path(given[name]).expanduser())
    settings = validate(file, Settings, given)
    errors = []
    for channel, references in settings.notify.channels.items():
        for number, reference in enumerate(references):
            try:
                SecretRef.parse(reference)
            except ConfigurationError as error:
                where = ("notify", "channels", channel, number)
                errors.append(file.error(f"channel {channel}: {error.message}", *where, hint=error.hint))
    if errors:
        raise ConfigurationErrors(errors)
    return settings
