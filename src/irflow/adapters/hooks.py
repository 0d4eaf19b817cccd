"""Hooks of irflow.yaml: programs and web services that act on hosts where SSH cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from irflow.adapters.deadline import Deadline
from irflow.adapters.hook_program import run
from irflow.config import HookSettings
from irflow.core.errors import ConfigurationError, HookFailed
from irflow.core.inventory import Host, Inventory
from irflow.core.model import Json
from irflow.core.ports import Hook
from irflow.core.secret import SecretStore

MOST_SAID = 300
"""Characters of a hook's own words that go into an error."""


class ConfiguredHooks:
    """core.ports.Hooks. hooks: by name, as in irflow.yaml."""

    def __init__(self, hooks: Mapping[str, HookSettings], secrets: SecretStore) -> None:
        self._hooks = dict(hooks)
        self._secrets = secrets

    def find(self, host: Host, verb: str) -> Hook | None:
        """The first hook of the file that names the host and does the verb, else the first for one of its groups."""
        able = {name: one for name, one in self._hooks.items() if verb in one.verbs}
        named = [name for name, one in able.items() if host.name in one.hosts]
        grouped = [name for name, one in able.items() if set(host.groups) & set(one.groups)]
        for name in (*named, *grouped):
            return Hook(name, able[name].timeout.total_seconds())
        return None

    def call(
        self, host: Host, verb: str, payload: dict[str, Json], *, timeout_s: float, hook: str = ""
    ) -> dict[str, Json]:
        """Send `{"verb", "host": {"name", "address", "groups"}, "payload"}` and return the object that comes back."""
        name, settings = self._chosen(host, verb, hook)
        about = {"name": host.name, "address": host.address, "groups": list(host.groups)}
        request = json.dumps({"verb": verb, "host": about, "payload": payload}).encode()
        deadline = Deadline.after(min(timeout_s, settings.timeout.total_seconds()))
        label = f"hook {name}, {verb} {host.name}"
        if settings.command:
            answer = run(settings.command, request, deadline, label=label, where=host.name)
        else:
            from irflow.adapters.hook_http import post  # late: httpx takes a while to load, and most never call one

            answer = post(settings, self._secrets, request, deadline, label=label, where=host.name)
        return _read(answer, label, host.name)

    def _chosen(self, host: Host, verb: str, hook: str) -> tuple[str, HookSettings]:
        found = self.find(host, verb)
        name = hook or (found.name if found else "")
        settings = self._hooks.get(name)
        if settings is None or verb not in settings.verbs:
            wanted = f"{hook} for {verb}" if hook else f"for {verb}"
            there = ", ".join(self._hooks) or "none"
            raise ConfigurationError(
                f"there is no hook {wanted}", where=host.name, hint=f"irflow.yaml has {there} under hooks:"
            )
        return name, settings


def _read(answer: bytes, label: str, host: str) -> dict[str, Json]:
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        said = answer[:MOST_SAID].decode("utf-8", "replace")
        raise HookFailed(f"{label}: the answer is not a JSON object: {said!r}", where=host)
    return value


def strangers(hooks: Mapping[str, HookSettings], inventory: Inventory) -> Iterator[ConfigurationError]:
    """One error for each host or group that a hook names and the inventory does not know: a typing mistake there
    would show only when the hook is needed.
    """
    for name, one in hooks.items():
        unknown = [host for host in one.hosts if host not in inventory.hosts]
        unknown += [group for group in one.groups if group not in inventory.group_sizes]
        for text in unknown:
            yield ConfigurationError(
                f"hook {name}: {text!r} is neither a host nor a group of the inventory", where="irflow.yaml",
                hint="Look at hosts and groups in inventory.yaml",
            )  # fmt: skip
