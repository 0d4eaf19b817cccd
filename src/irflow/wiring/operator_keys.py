"""Where the keys of operators' one-time codes are put, replaced and forgotten: a keyring, Vault, or a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from irflow.adapters.secret_files import write_secret
from irflow.config import Settings
from irflow.core.errors import ConfigurationError, Refused
from irflow.core.secret import SecretRef, SecretValue
from irflow.wiring.secrets import open_keyring, vault_session

VAULT_FOLDER = "irflow/operators"
"""In the mount that secrets/policies/responder.hcl lets irflow write to."""


def usual_reference(settings: Settings, name: str) -> str:
    """Where an operator's key belongs here, unless somebody says otherwise."""
    if settings.keyring:
        return f"keyring:irflow/operators/{name}"
    if settings.vault:
        return f"vault:{VAULT_FOLDER}/{name}#totp"
    return f"file:keys/{name}.totp"


def keep(settings: Settings, ref: SecretRef, key: SecretValue, *, anew: bool) -> None:
    """Put a key where the reference leads. anew: in place of what is there.

    Raises Refused when there is something and not `anew`, ConfigurationError, ServiceMissing.
    """
    {"keyring": _in_keyring, "vault": _in_vault, "file": _in_file}[ref.scheme](settings, ref, key, anew)


def forget(settings: Settings, ref: SecretRef) -> bool:
    """Take a key away that nobody needs any more; False where it stays: in Vault irflow may delete nothing."""
    if ref.scheme == "vault":
        return False
    if ref.scheme == "file":
        _path(settings, ref).unlink(missing_ok=True)
        return True
    from irflow.adapters.keyring.secrets import KeyringSecrets

    if settings.keyring is not None:
        KeyringSecrets(open_keyring(settings.keyring)).forget(ref)
    return True


def _in_keyring(settings: Settings, ref: SecretRef, key: SecretValue, anew: bool) -> None:
    from irflow.adapters.keyring.secrets import KeyringSecrets

    if settings.keyring is None:
        raise ConfigurationError(
            "it names no keyring", where="irflow.yaml", hint="Write keyring: {backend: encrypted-file, ...}"
        )
    entries = KeyringSecrets(open_keyring(settings.keyring))
    if entries.holds(ref) and not anew:
        raise _taken(ref)
    entries.put(ref, key)


def _in_vault(settings: Settings, ref: SecretRef, key: SecretValue, anew: bool) -> None:
    from irflow.adapters.vault.documents import KvDocument
    from irflow.adapters.vault.failures import VaultPathMissing

    document = KvDocument(vault_session(settings), ref)
    try:
        before = document.read()
    except VaultPathMissing:
        document.begin(key, {})
        return
    if not anew:
        raise _taken(ref)
    document.forget(document.write(replace(before, live=key)).version)


def _in_file(settings: Settings, ref: SecretRef, key: SecretValue, anew: bool) -> None:
    path = _path(settings, ref)
    if path.exists() and not anew:
        raise _taken(ref)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(SecretRef("file", str(path)), key)


def same_place(settings: Settings, one: str, other: str) -> bool:
    """Whether two references, either maybe empty, lead to the same."""
    if not (one and other):
        return False
    parsed = SecretRef.parse(one), SecretRef.parse(other)
    if all(ref.scheme == "file" for ref in parsed):
        return _path(settings, parsed[0]).absolute() == _path(settings, parsed[1]).absolute()
    return parsed[0] == parsed[1]


def _path(settings: Settings, ref: SecretRef) -> Path:
    """The file of a reference; a relative one counts from home."""
    return settings.home / Path(ref.path).expanduser()


def _taken(ref: SecretRef) -> Refused:
    hint = "Name another place with --totp; only an operator's own is written over, with --new-key"
    return Refused("there is a value already", where=str(ref), hint=hint)
