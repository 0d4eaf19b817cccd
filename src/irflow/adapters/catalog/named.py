"""inventory.yaml and operators.yaml: named entries with defaults, groups and caps."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from irflow.adapters.catalog.file_references import path_from, reference_from
from irflow.adapters.catalog.imports import Imports, imported
from irflow.adapters.catalog.model import suggestion, validate
from irflow.adapters.catalog.yaml_file import YamlFile, read_yaml
from irflow.core.approvals import Operator
from irflow.core.errors import ConfigurationError, ConfigurationErrors
from irflow.core.inventory import SIGNED, Caps, Host, Inventory
from irflow.core.model import Json

T = TypeVar("T")

_DNS = re.compile(
    r"(?=.{1,253}\.?$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
_KEYS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def load_inventory(path: Path) -> Inventory:
    """Read `defaults`, `caps`, `groups`, `import`, `hosts`. Raises ConfigurationErrors with every mistake at its line.

    `file:` keys and certificates are relative to the inventory's folder. What a host's own entry says comes before what
    was imported about it, and that before the defaults.
    """
    file = read_yaml(path)
    errors: list[ConfigurationError] = []
    top = _top(file, ("defaults", "caps", "groups", "import", "hosts"), errors)
    foreign = _imported(file, top["import"], path.parent, errors)
    entries: dict[str, Json] = {**dict.fromkeys(foreign), **top["hosts"]}
    try:
        caps = validate(file, Caps, top["caps"], under=("caps",))
    except ConfigurationErrors as found:
        errors += found.errors
        caps = Caps()
    groups = _groups(file, top["groups"], entries, errors)
    file = _with_default_lines(file, top["defaults"], entries)
    hosts: dict[str, Host] = {}
    for name, entry in entries.items():
        own: Json = {} if entry is None and name in foreign else entry
        given = {**top["defaults"], **foreign.get(name, {}), **own} if isinstance(own, dict) else own
        if isinstance(given, dict):
            if "name" in given:
                errors.append(file.error("unknown key 'name'", "hosts", name, "name", hint="The name is the key"))
                continue
            inherited = [group for group, members in groups.items() if name in members]
            given = {**_absolute(given, path.parent), "name": name}
            if inherited:
                given["groups"] = list(dict.fromkeys([*(given.get("groups") or ()), *inherited]))
        try:
            hosts[name] = validate(file, Host, given, under=("hosts", name))
        except ConfigurationErrors as found:
            errors += found.errors
    errors += _contradictions(file, hosts, set(entries))
    if errors:  # a mistake in the defaults is the same one for every host
        raise ConfigurationErrors(list({str(error): error for error in errors}.values()))
    return Inventory(hosts=hosts, caps=caps)


def _imported(
    file: YamlFile, given: Mapping[str, Json], folder: Path, errors: list[ConfigurationError]
) -> dict[str, dict[str, Json]]:
    """The hosts of other files; mistakes in those are told at the line that imports them."""
    if not given:
        return {}
    try:
        return imported(validate(file, Imports, dict(given), under=("import",)), folder)
    except ConfigurationErrors as found:
        errors += found.errors
    except ConfigurationError as error:
        where = f" ({error.where})" if error.where else ""
        errors.append(file.error(f"{error.message}{where}", "import", hint=error.hint))
    return {}


def load_operators(path: Path) -> tuple[Operator, ...]:
    """Read `operators: {NAME: {login, roles, email}}`; login is NAME unless given. Raises ConfigurationErrors."""
    return tuple(load_named(path, "operators", Operator, defaults=lambda name: {"login": name}).values())


def load_named(
    path: Path, key: str, model: type[T], *, name_field: str = "name", defaults: object = None
) -> dict[str, T]:
    """Read `KEY: {NAME: {...}}` as models by name; the name goes into `name_field`. Raises ConfigurationErrors."""
    file = read_yaml(path)
    errors: list[ConfigurationError] = []
    entries = _top(file, (key,), errors)[key]
    found: dict[str, T] = {}
    for name, entry in entries.items():
        given: Json = {} if entry is None else entry
        if isinstance(given, dict):
            given = {**(defaults(name) if callable(defaults) else {}), **given, name_field: name}
        try:
            found[name] = validate(file, model, given, under=(key, name))
        except ConfigurationErrors as wrong:
            errors += wrong.errors
    if errors:
        raise ConfigurationErrors(errors)
    return found


def _top(file: YamlFile, keys: tuple[str, ...], errors: list[ConfigurationError]) -> dict[str, dict[str, Json]]:
    """The file's top-level mappings; a missing one is empty."""
    data: Json = {} if file.data is None else file.data
    if not isinstance(data, dict):
        raise ConfigurationErrors([file.error("not a mapping", hint=f"It has the keys {', '.join(keys)}")])
    errors += [file.error(f"unknown key {key!r}", key, hint=suggestion(key, keys)) for key in data if key not in keys]
    found: dict[str, dict[str, Json]] = {}
    for key in keys:
        value = data.get(key)
        if value is not None and not isinstance(value, dict):
            errors.append(file.error(f"{key!r} is not a mapping", key))
        found[key] = value if isinstance(value, dict) else {}
    return found


def _with_default_lines(file: YamlFile, defaults: Mapping[str, Json], hosts: Mapping[str, Json]) -> YamlFile:
    """The file, so that what a host has from the defaults stands where the defaults do."""
    lines = dict(file.lines)
    below = [(at[1:], line) for at, line in file.lines.items() if at[0] == "defaults" and len(at) > 1]
    for name, entry in hosts.items():
        own = entry if isinstance(entry, dict) else {}
        lines |= {("hosts", name, *at): line for at, line in below if at[0] not in own}
    return replace(file, lines=lines)


def _groups(
    file: YamlFile, groups: Mapping[str, Json], hosts: Mapping[str, Json], errors: list[ConfigurationError]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, members in groups.items():
        if not isinstance(members, list) or not all(isinstance(one, str) for one in members):
            errors.append(file.error(f"group {group!r} is not a list of host names", "groups", group))
            continue
        found[group] = members
        for number, name in enumerate(members):
            if name not in hosts:
                hint = suggestion(name, hosts)
                errors.append(file.error(f"group {group!r}: no host {name!r}", "groups", group, number, hint=hint))
    return found


def _absolute(given: dict[str, Json], folder: Path) -> dict[str, Json]:
    """Relative paths made absolute, from the inventory's folder."""
    changed = dict(given)
    key, certificate = given.get("key"), given.get("certificate")
    if isinstance(key, str):
        changed["key"] = reference_from(folder, key)
    if isinstance(certificate, str) and not certificate.startswith(SIGNED):
        changed["certificate"] = str(path_from(folder, certificate))
    return changed


def _contradictions(file: YamlFile, hosts: Mapping[str, Host], named: set[str]) -> Iterator[ConfigurationError]:
    """What each host's fields cannot show alone: names used twice, unknown or circular jumps, ill-formed addresses."""
    owner: dict[str, str] = {}
    for name, host in hosts.items():
        for text in dict.fromkeys(one.lower() for one in (name, host.address, *host.aliases)):
            other = owner.setdefault(text, name)
            # Network namespaces have their own addresses, so there only names must differ.
            if other != name and not (text == host.address.lower() and host.netns != hosts[other].netns):
                yield file.error(f"{text!r} already means host {other!r}", "hosts", name)
        if not _is_address(host.address):
            yield file.error(
                f"address: neither an IP address nor a DNS name: {host.address!r}", "hosts", name, "address"
            )
        for number, key in enumerate(host.host_keys):
            if not _is_host_key(key):
                hint = "Write TYPE BASE64 as in ssh-keyscan, or enrol it: irflow hosts enrol"
                yield file.error("host_keys: not a public host key", "hosts", name, "host_keys", number, hint=hint)
        if host.jump is not None:
            yield from _jumps(file, hosts, named, host)


def _jumps(file: YamlFile, hosts: Mapping[str, Host], named: set[str], host: Host) -> Iterator[ConfigurationError]:
    seen, jump = {host.name}, host.jump
    while jump is not None:
        if jump not in named:
            if jump == host.jump:
                yield file.error(f"jump: no host {jump!r}", "hosts", host.name, "jump", hint=suggestion(jump, named))
            return
        if jump in seen:
            yield file.error("jump: leads back to where it began", "hosts", host.name, "jump")
            return
        seen.add(jump)
        jump = hosts[jump].jump if jump in hosts else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return _DNS.fullmatch(text) is not None
    return True


def _is_host_key(text: str) -> bool:
    kind, _, encoded = text.partition(" ")
    try:
        raw = base64.b64decode(encoded.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        return False
    return kind in _KEYS and raw[4 : 4 + len(kind)] == kind.encode()
