"""secrets.yaml: the secrets that irflow looks after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from irflow.adapters.catalog.file_references import path_from, reference_from
from irflow.adapters.catalog.model import suggestion, validate
from irflow.adapters.catalog.named import load_named
from irflow.adapters.catalog.yaml_file import YamlFile, read_yaml
from irflow.core.errors import ConfigurationError, ConfigurationErrors
from irflow.core.inventory import Inventory
from irflow.core.model import Noun
from irflow.core.secret_inventory import ManagedSecret, SecretInventory


def load_secrets(
    path: Path, targets: Mapping[str, type[Noun]], engines: Mapping[str, type[Noun]], inventory: Inventory
) -> SecretInventory:
    """Read `secrets: {NAME: {...}}`. targets, engines: by kind, what each wants to know.

    Relative files are meant from the file's folder. Raises ConfigurationErrors with every mistake at its line: unknown
    kinds, hosts and names, circles, a reference that is missing, has no place or the place of another.
    """
    named = load_named(path, "secrets", ManagedSecret)
    found = SecretInventory(secrets={name: _from_here(one, path.parent) for name, one in named.items()})
    file = read_yaml(path)
    errors = _shared(file, found)
    for name, one in found.secrets.items():
        errors += _target(file, one, {**targets, **engines}, inventory)
        errors += _reference(file, one, engine=one.kind in engines)
        for number, other in enumerate(one.after):
            if other not in found.secrets:
                hint = suggestion(other, found.secrets)
                errors.append(file.error(f"no secret {other!r}", "secrets", name, "after", number, hint=hint))
            elif found.secrets[other].own and not one.own:
                said = f"{other!r} is irflow's own and comes last"
                errors.append(file.error(said, "secrets", name, "after", number, hint="Take it away"))
    if not errors:
        try:
            found.order(found.secrets)
        except ConfigurationError as error:
            errors.append(file.error(error.message, "secrets", hint=error.hint))
    if errors:
        raise ConfigurationErrors(errors)
    return found


def _from_here(one: ManagedSecret, folder: Path) -> ManagedSecret:
    """With the files that it names made absolute: its copies, and what a target's connection is opened with."""
    target = dict(one.target)
    if isinstance(target.get("admin_secret"), str):
        target["admin_secret"] = reference_from(folder, target["admin_secret"])
    if isinstance(target.get("ca"), str) and target["ca"]:
        target["ca"] = str(path_from(folder, target["ca"]))
    copies = tuple(reference_from(folder, copy) for copy in one.copies)
    return one.model_copy(update={"copies": copies, "target": target})


def _shared(file: YamlFile, found: SecretInventory) -> list[ConfigurationError]:
    """Irflow's notes in a document are about one value: of two, each would take the other's rotation for its own."""
    first: dict[tuple[str, ...], str] = {}
    errors = []
    for name, one in found.secrets.items():
        other = first.setdefault((one.ref.scheme, *filter(None, one.ref.path.split("/"))), name)
        if other != name:
            said, hint = f"{other!r} is in the same document", "Give each secret a document of its own"
            errors.append(file.error(said, "secrets", name, "reference", hint=hint))
    return errors


def _reference(file: YamlFile, one: ManagedSecret, *, engine: bool) -> list[ConfigurationError]:
    """What a target asks for lives somewhere; what an engine makes lives in Vault, where only the engine knows."""
    at = ("secrets", one.name)
    if engine and (one.reference or one.copies):
        key = "reference" if one.reference else "copies"
        return [file.error(f"{one.kind} is kept by Vault's engine", *at, key, hint=f"Take {key} away")]
    if not engine and not one.reference:
        return [file.error("says no reference", *at, hint="reference: vault:irflow/shop/db#password")]
    return []


def _target(
    file: YamlFile, one: ManagedSecret, kinds: Mapping[str, type[Noun]], inventory: Inventory
) -> list[ConfigurationError]:
    at = ("secrets", one.name, "target")
    params = {key: value for key, value in one.target.items() if key != "kind"}
    if one.kind not in kinds:
        return [file.error(f"no target of kind {one.kind!r}", *at, "kind", hint=suggestion(one.kind, kinds))]
    try:
        checked = validate(file, kinds[one.kind], params, under=at)
    except ConfigurationErrors as wrong:
        return list(wrong.errors)
    account = getattr(checked, "account", None)  # of a host of the inventory
    host = getattr(checked, "host", None)
    if account is not None and host not in inventory.hosts:
        hint = suggestion(str(host), inventory.hosts)
        return [file.error(f"no host {host!r} in the inventory", *at, "host", hint=hint)]
    return [
        file.error(
            f"no host {one!r} in the inventory", *at, "hosts", number, hint=suggestion(one, inventory.hosts)
        )
        for number, one in enumerate(getattr(checked, "hosts", ())) if one not in inventory.hosts
    ]  # fmt: skip
