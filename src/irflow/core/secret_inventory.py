"""The secrets that irflow looks after: where each is, what asks for it, and in which order they are replaced."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from pydantic import Field, ValidationInfo, field_validator

from irflow.core.errors import ConfigurationError, UsageError
from irflow.core.model import Json, Noun
from irflow.core.rotation import OnFailure
from irflow.core.secret import SecretRef


class ManagedSecret(Noun):
    """One secret of secrets.yaml.

    reference: where the value is, `vault:MOUNT/path#field` or `keyring:SERVICE/USER`; empty where an engine of Vault
    keeps it. copies: `file:` references that get the live value too, before the old one is ended. target: what asks
    for it: its `kind`, and what that kind wants to know. owner: who is asked about it. after: names of secrets that are
    replaced before it. dependants: who reads the value, for people. own: irflow itself gets in with it; such come last.
    on_failure: see OnFailure.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    reference: str = ""
    copies: tuple[str, ...] = ()
    target: dict[str, Json]
    owner: str = ""
    after: tuple[str, ...] = ()
    dependants: tuple[str, ...] = ()
    own: bool = False
    on_failure: OnFailure = OnFailure.ROLLBACK

    @field_validator("reference", "copies")
    @classmethod
    def _references(cls, value: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
        wanted = ("vault", "keyring") if info.field_name == "reference" else ("file",)
        try:
            for one in (value,) if isinstance(value, str) else value:
                if one and SecretRef.parse(one).scheme not in wanted:
                    raise ValueError(f"must be a reference of the kind {' or '.join(f'{each}:' for each in wanted)}")
        except ConfigurationError as error:  # as a ValueError it keeps its place in the file
            raise ValueError(str(error)) from None
        return value

    @field_validator("target")
    @classmethod
    def _kind(cls, value: dict[str, Json]) -> dict[str, Json]:
        if not isinstance(value.get("kind"), str):
            raise ValueError("says no kind, as in target: {kind: postgresql, ...}")
        return value

    @property
    def ref(self) -> SecretRef:
        """The parsed reference; where an engine keeps the secret, of irflow's own notes about it."""
        return SecretRef.parse(self.reference or f"vault:irflow/rotations/{self.name}#place")

    @property
    def kind(self) -> str:
        """Of its target."""
        kind: str = self.target["kind"]
        return kind


class SecretInventory(Noun):
    """All of them, by name."""

    secrets: dict[str, ManagedSecret] = {}

    def get(self, name: str) -> ManagedSecret:
        """The one of this name. Raises UsageError naming those there are."""
        if name not in self.secrets:
            raise UsageError(f"no secret {name!r}", hint=f"There are {', '.join(sorted(self.secrets)) or 'none'}")
        return self.secrets[name]

    def graph(self, names: Iterable[str]) -> TopologicalSorter[str]:
        """Which of the named have to wait for which; irflow's own wait for all others. It is ready to be worked off.

        Raises ConfigurationError when they wait for each other in a circle.
        """
        chosen = set(names)
        others = {name for name in chosen if not self.secrets[name].own}
        waits = {
            name: (set(self.secrets[name].after) & chosen) | (others if self.secrets[name].own else set())
            for name in sorted(chosen)
        }
        sorter = TopologicalSorter(waits)
        try:
            sorter.prepare()
        except CycleError as error:
            circle = " -> ".join(error.args[1])
            raise ConfigurationError(f"secrets wait for each other: {circle}", hint="Take one `after` away") from None
        return sorter

    def order(self, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """The named in groups: each group at once, after all groups before it. Raises ConfigurationError."""
        sorter, groups = self.graph(names), []
        while sorter.is_active():
            group = tuple(sorted(sorter.get_ready()))
            groups.append(group)
            sorter.done(*group)
        return tuple(groups)
