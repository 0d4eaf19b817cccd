"""irflow.yaml under IRFLOW_HOME: the settings of one installation."""

from __future__ import annotations

import os
import re
from pathlib import Path

from irflow.adapters.catalog.file_references import path_from, reference_from
from irflow.adapters.catalog.model import validate
from irflow.adapters.catalog.yaml_file import YamlFile, read_yaml
from irflow.config import (
    BUILT_IN,
    BackupSettings,
    DatabaseSettings,
    HookSettings,
    KeyringSettings,
    Settings,
    VaultSettings,
)
from irflow.core.errors import ConfigurationError, ConfigurationErrors
from irflow.core.secret import SecretRef

_REMOTE = re.compile(r"[a-z0-9]+:")  # sftp:, rest:, s3: ...; restic knows which there are
_PASSWORD_INSIDE = re.compile(r"//[^/@\s]*:[^/@\s]*@")


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
    errors: list[ConfigurationError] = []
    channels = {
        channel: tuple(_reference(file, home, errors, channel, number, text) for number, text in enumerate(references))
        for channel, references in settings.notify.channels.items()
    }
    backup = _backup(file, home, errors, settings.backup)
    if errors:
        raise ConfigurationErrors(errors)
    notify = settings.notify.model_copy(update={"channels": channels})
    hooks = {name: _at_home(one, home) for name, one in settings.hooks.items()}
    vault = settings.vault and _vault_at_home(settings.vault, home)
    keyring = settings.keyring and _keyring_at_home(settings.keyring, home)
    databases = {name: _database_at_home(one, home) for name, one in settings.databases.items()}
    return settings.model_copy(
        update={
            "notify": notify, "hooks": hooks, "backup": backup, "vault": vault, "keyring": keyring,
            "databases": databases,
        }
    )  # fmt: skip


def _backup(file: YamlFile, home: Path, errors: list[ConfigurationError], backup: BackupSettings) -> BackupSettings:
    """With file paths made absolute from home. What the location says is never repeated, it may hold a password."""
    found = {"repository": backup.repository, "password": backup.password}
    if _PASSWORD_INSIDE.search(backup.repository):
        hint = "Put the location into a 0600 file and write repository: file:keys/backup.location"
        errors.append(file.error("the location holds a password", "backup", "repository", hint=hint))
    for name in ("repository",) * backup.location_is_secret + ("password",) * bool(backup.password):
        try:
            SecretRef.parse(found[name])
        except ConfigurationError as error:
            errors.append(file.error(error.message, "backup", name, hint=error.hint))
            continue
        found[name] = reference_from(home, found[name])
    if not backup.location_is_secret and not _REMOTE.match(backup.repository.removeprefix("local:")):
        folder = backup.repository.removeprefix("local:") or "backups"
        found["repository"] = str(home / Path(folder).expanduser())
    return backup.model_copy(update=found)


def _at_home(hook: HookSettings, home: Path) -> HookSettings:
    """The hook with the paths of its key and certificate made absolute, from home."""
    return hook.model_copy(update={"key": reference_from(home, hook.key), "ca": hook.ca and path_from(home, hook.ca)})


def _vault_at_home(vault: VaultSettings, home: Path) -> VaultSettings:
    """With the paths of its certificate and of `file:` references made absolute, from home."""
    return vault.model_copy(
        update={
            "ca": vault.ca and path_from(home, vault.ca),
            "role": reference_from(home, vault.role),
            "secret": reference_from(home, vault.secret),
        }
    )


def _keyring_at_home(keyring: KeyringSettings, home: Path) -> KeyringSettings:
    return keyring.model_copy(update={"file": path_from(home, keyring.file), "key": reference_from(home, keyring.key)})


def _database_at_home(database: DatabaseSettings, home: Path) -> DatabaseSettings:
    ca = database.ca and path_from(home, database.ca)
    return database.model_copy(update={"ca": ca, "password": reference_from(home, database.password)})


def _reference(
    file: YamlFile, home: Path, errors: list[ConfigurationError], channel: str, number: int, text: str
) -> str:
    """A receiver of a channel: `log`, `dashboard`, or a secret reference, its file path made absolute from home."""
    if text in BUILT_IN:
        return text
    try:
        SecretRef.parse(text)
    except ConfigurationError as error:
        hint = f"{error.hint}; or one of {', '.join(BUILT_IN)}"
        errors.append(
            file.error(f"channel {channel}: {error.message}", "notify", "channels", channel, number, hint=hint)
        )
        return text
    return reference_from(home, text)
