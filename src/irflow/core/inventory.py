"""The hosts irflow may touch: how to reach them, whose they are, and how careful to be."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from functools import cached_property

from pydantic import Field, field_validator

from irflow.core.errors import ConfigurationError
from irflow.core.model import Noun
from irflow.core.secret import SecretRef
from irflow.core.severity import Severity

_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$"  # never starts with '-': a name must not read as an option
SIGNED = "vault:"
"""What a certificate begins with that is no file: it is signed at each login."""
_ROLE = re.compile(r"vault:[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/sign/[A-Za-z0-9_.-]+")


class Host(Noun):
    """One host of the inventory.

    address: IP address or DNS name. user, sudo: the account irflow logs in with, and whether it needs `sudo -n`.
    key: reference to the private key. certificate: path of an OpenSSH user certificate for it, or the role that signs
    one at each login, `vault:MOUNT/sign/ROLE`.
    host_keys: accepted host keys as `TYPE BASE64`. jump: inventory name of the jump host.
    netns: path of the network namespace from which the host is reachable (management VRF, lab).
    management: addresses or networks that must keep SSH access while the host is isolated.
    allow: flows to keep open while isolated, `udp:10.0.0.53:53`. protected: a person must always agree.
    criticality: how much its outage hurts; a playbook waives nobody's yes for a host above the incident's severity.
    own: irflow runs on it, or needs it (Vault, database): never touched unless two people agree. Jump hosts, and hosts
    with an address of this machine or of a service that irflow uses, are so without saying it.
    """

    name: str = Field(pattern=_NAME)
    address: str
    port: int = Field(default=22, ge=1, le=65535)
    user: str = Field(default="root", pattern=r"^[a-z_][a-z0-9_-]*$")
    sudo: bool = False
    key: str
    certificate: str | None = None
    host_keys: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    jump: str | None = None
    netns: str | None = None
    management: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    protected: bool = False
    criticality: Severity = Severity.LOW
    own: bool = False
    owner: str = ""

    @field_validator("management")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(one, strict=False)) for one in value)

    @field_validator("certificate")
    @classmethod
    def _signed(cls, value: str | None) -> str | None:
        if value is not None and value.startswith(SIGNED) and not _ROLE.fullmatch(value):
            raise ValueError("a role that signs SSH keys is written as vault:MOUNT/sign/ROLE")
        return value

    @field_validator("key")
    @classmethod
    def _reference(cls, value: str) -> str:
        try:
            SecretRef.parse(value)
        except ConfigurationError as error:  # as a ValueError it keeps its place in the file it came from
            raise ValueError(str(error)) from None
        return value


class Caps(Noun):
    """How much one incident may touch without a person.

    hosts: most hosts per incident. group_percent: most of any one group, in percent, rounded up to one host.
    """

    hosts: int = Field(default=10, ge=0)
    group_percent: int = Field(default=100, ge=0, le=100)


class Inventory(Noun):
    """All hosts by name, and the caps."""

    hosts: dict[str, Host] = {}
    caps: Caps = Caps()

    def find(self, text: str) -> Host | None:
        """The host whose name, alias or address is exactly `text` (case-insensitive for names), else None.

        Port suffixes as in `web-1:9100` are accepted, because exporters label alerts that way.
        """
        wanted = text.strip().lower()
        without_port = wanted.rpartition(":")[0] if wanted.count(":") == 1 else ""
        return self._by_text.get(wanted) or self._by_text.get(without_port)

    def resolve(self, texts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Split host texts of an alert into (inventory names, unknown), both without repeats, in order."""
        known: dict[str, None] = {}
        unknown: dict[str, None] = {}
        for text in texts:
            host = self.find(text)
            if host is None:
                unknown[text[:253]] = None
            else:
                known[host.name] = None
        return tuple(known), tuple(unknown)

    @cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The hosts of each group, by name."""
        found: dict[str, tuple[str, ...]] = {}
        for host in self.hosts.values():
            for group in host.groups:
                found[group] = (*found.get(group, ()), host.name)
        return found

    @cached_property
    def own(self) -> frozenset[str]:
        """Names of the hosts that irflow itself needs: those that say so, and every jump host."""
        jumps = {host.jump for host in self.hosts.values() if host.jump}
        return frozenset({host.name for host in self.hosts.values() if host.own} | jumps)

    @cached_property
    def group_sizes(self) -> dict[str, int]:
        """How many hosts each group has."""
        return Counter(group for host in self.hosts.values() for group in host.groups)

    @cached_property
    def _by_text(self) -> dict[str, Host]:
        """Hosts by everything an alert may call them, in lower case; the first host of the file wins."""
        found: dict[str, Host] = {}
        for host in self.hosts.values():
            for text in (host.name, host.address, *host.aliases):
                found.setdefault(text.lower(), host)
        return found
