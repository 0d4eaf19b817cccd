"""A secret's document in the KV engine, version 2: Vault's check-and-set decides between rotations."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import hvac

from irflow.adapters.vault.failures import VaultDenied, VaultPathMissing
from irflow.adapters.vault.session import Session
from irflow.core.errors import ConfigurationError
from irflow.core.model import Json, from_text, to_text
from irflow.core.rotation import Document, OnFailure, Overtaken, Staged
from irflow.core.secret import SecretRef, SecretValue

OURS = "_irflow"
"""The one field of a document that is irflow's: run, staged, old, disabled, since, given_up."""
KEPT_VERSIONS = 10
"""A rotation writes 4 and a sweep of a crashed one 4 more: Vault must drop none before it is destroyed."""


@dataclass(frozen=True)
class KvDocument:
    """core.rotation.Authority for one `vault:MOUNT/path#field`."""

    session: Session
    ref: SecretRef

    def read(self) -> Document:
        """The newest version. Raises VaultPathMissing, ConfigurationError when the field is not there."""
        found = self._call(
            lambda kv, mount, path: kv.read_secret_version(path, mount_point=mount, raise_on_deleted_version=True)
        )["data"]
        fields: dict[str, Json] = dict(found["data"])
        ours = fields.pop(OURS, None) or {}
        live = self._live(fields)
        try:
            return self._read(live, ours, found["metadata"], fields)
        except (AttributeError, KeyError, TypeError, ValueError):  # somebody else wrote into it
            raise ConfigurationError(
                f"its field {OURS} is not as irflow writes it", where=str(self.ref),
                hint="See in an older version what was there: vault kv get -version=N; else take the field away",
            ) from None  # fmt: skip

    def _read(self, live: SecretValue, ours: Any, about: dict[str, Any], rest: dict[str, Json]) -> Document:
        staged = ours.get("staged")
        return Document(
            live=live,
            version=about["version"],
            run=ours.get("run", ""),
            staged=staged and Staged(
                staged["run"], SecretValue(staged["new"].encode()),
                OnFailure(staged["giving_up"]) if staged["giving_up"] else None,
            ),
            old=SecretValue(ours["old"].encode()) if "old" in ours else None,
            disabled=ours.get("disabled", False),
            rest=rest,
            name=str(self.ref),
            since=_since(ours, about),
            given_up=ours.get("given_up", ""),
        )  # fmt: skip

    def write(self, document: Document) -> Document:
        """The next version, if `document.version` is still the newest. Raises Overtaken."""
        data = {**document.rest, self._field: document.live.reveal().decode(), OURS: _ours(document)}
        said = self._call(
            lambda kv, mount, path: kv.create_or_update_secret(path, data, cas=document.version, mount_point=mount)
        )
        return replace(document, version=said["data"]["version"])

    def forget(self, keep: int) -> None:
        """Destroy what is older: the bytes go, a mark that there was a version stays."""
        if not keep:
            return
        found = self._call(lambda kv, mount, path: kv.read_secret_metadata(path, mount_point=mount))["data"]
        older = [int(one) for one, about in found["versions"].items() if int(one) < keep and not about["destroyed"]]
        if older:
            self._call(lambda kv, mount, path: kv.destroy_secret_versions(path, older, mount_point=mount))

    def begin(self, value: SecretValue, rest: dict[str, Json]) -> Document:
        """Put a secret under irflow's care that Vault did not have. Raises Overtaken when it is there already."""
        self._guard()
        try:
            return self.write(Document(value, 0, rest=rest, name=str(self.ref)))
        except Overtaken:
            hint = "Nothing was changed; a field more goes in with: vault kv patch -method=rw"
            raise Overtaken("Vault has this document already", where=str(self.ref), hint=hint) from None

    def _guard(self) -> None:
        """Have Vault take no write without a check-and-set, and drop no version that nobody destroyed."""
        self._call(
            lambda kv, mount, path: kv.update_metadata(
                path, mount_point=mount, cas_required=True, max_versions=KEPT_VERSIONS
            )
        )

    def _live(self, fields: dict[str, Json]) -> SecretValue:
        """Take the value out of a document's fields."""
        live = fields.pop(self._field, None)
        if isinstance(live, str):
            return SecretValue(live.encode())
        if live is not None:
            raise ConfigurationError("the value is not a text", where=str(self.ref), hint="Put it there in quotes")
        there = ", ".join(sorted(fields))
        raise ConfigurationError(
            "the document has no such field", where=str(self.ref), hint=f"It has {there}" if there else "It has none"
        )

    @property
    def _field(self) -> str:
        return self.ref.field or "value"

    def _call(self, do: Any) -> Any:
        tried = self.session.mounts.split(self.ref.path)
        try:
            return self._once(do, *tried)
        except (VaultDenied, VaultPathMissing):
            self._learn_mount()
            other = self.session.mounts.split(self.ref.path)
            if other == tried:
                raise
        return self._once(do, *other)

    def _once(self, do: Any, mount: str, path: str) -> Any:
        return self.session.call(str(self.ref), lambda client: do(_kv(client), mount, path))

    def _learn_mount(self) -> None:
        """Ask Vault where the mount's name ends, as `vault kv` does: whoever may use a mount may ask for it."""
        path = f"sys/internal/ui/mounts/{self.ref.path}"
        with suppress(VaultDenied, VaultPathMissing):
            found: Any = self.session.call(str(self.ref), lambda client: client.read(path))
            self.session.mounts.learn(found["data"]["path"])


@dataclass(frozen=True)
class EnginePlace(KvDocument):
    """core.rotation.Authority for what an engine of Vault keeps: run and what was before, made at the first use."""

    def read(self) -> Document:
        """As KvDocument; where there is nothing yet, version 0 of it."""
        try:
            return super().read()
        except VaultPathMissing:
            return Document(SecretValue(b"kept by Vault's own engine"), 0, name=str(self.ref))

    def write(self, document: Document) -> Document:
        """As KvDocument; the first makes it."""
        if not document.version:
            self._guard()
        return super().write(document)


class VaultSecrets:
    """core.secret.SecretStore for `vault:` references."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The live value, also while a rotation is under way."""
        return KvDocument(self._session, ref).read().live


def _kv(client: hvac.Client) -> Any:
    return client.secrets.kv.v2


def _since(ours: dict[str, Json], about: dict[str, Any]) -> datetime | None:
    """When the live value was made: as noted, else when the document was made: later versions may be of others."""
    if ours:
        return from_text(ours["since"]) if "since" in ours else None
    if about["version"] != 1:
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", about["created_time"]))  # it writes nanoseconds


def _ours(document: Document) -> dict[str, Json]:
    ours: dict[str, Json] = {"run": document.run}
    if document.since:
        ours["since"] = to_text(document.since)
    if document.staged:
        staged = document.staged
        giving_up = str(staged.giving_up) if staged.giving_up else None
        ours["staged"] = {"run": staged.run, "new": staged.new.reveal().decode(), "giving_up": giving_up}
    if document.old:
        ours["old"] = document.old.reveal().decode()
    if document.disabled:
        ours["disabled"] = True
    if document.given_up:
        ours["given_up"] = document.given_up
    return ours
