"""A secret's document in a keyring: the value in its own entry, as others read it, and irflow's notes in a second one.

A keyring replaces one entry at a time and compares nothing, so a lock on a file keeps rotations apart.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irflow.adapters.keyring.secrets import Backend, KeyringSecrets, named
from irflow.core.errors import ConfigurationError
from irflow.core.model import Json, from_text, to_text
from irflow.core.rotation import Document, OnFailure, Overtaken, Staged
from irflow.core.secret import SecretRef, SecretValue

NOTES = "#irflow"
"""Ends the user's name of the second entry."""


@dataclass(frozen=True)
class KeyringDocument:
    """core.rotation.Authority for one `keyring:SERVICE/USER`. lock: a file that all rotations on this machine share."""

    backend: Backend
    ref: SecretRef
    lock: Path

    def read(self) -> Document:
        """What is there now. Raises ConfigurationError when there is no such entry, ServiceMissing."""
        with self._alone():
            return self._read()

    def write(self, document: Document) -> Document:
        """In place of the version it was read as. Raises Overtaken when that is not the one there any more."""
        with self._alone():
            found = self._read()
            if found.version != document.version:
                raise Overtaken("somebody else changed it", where=str(self.ref), hint="Try again")
            return self._write(document, before=found.live)

    def forget(self, keep: int) -> None:
        """A keyring keeps no older versions."""

    def begin(self, value: SecretValue, rest: dict[str, Json]) -> Document:
        """The first value of an entry. Raises Overtaken when there is one."""
        with self._alone():
            if self._entry("") is not None:
                raise Overtaken("the keyring has this entry already", where=str(self.ref), hint="Nothing was changed")
            return self._write(Document(value, 0, rest=rest, name=str(self.ref)), before=None)

    def _read(self) -> Document:
        value = KeyringSecrets(self.backend).resolve(self.ref)
        noted = self._entry(NOTES)
        notes: dict[str, Any] = json.loads(noted) if noted else {"version": 0}
        if "live" in notes and notes["before"] == value.reveal().decode() != notes["live"]:
            value = SecretValue(notes["live"].encode())  # killed between the two entries: the notes are newer
            self._set("", value.reveal().decode())
        staged = notes.get("staged")
        return Document(
            live=value,
            version=notes["version"],
            run=notes.get("run", ""),
            staged=staged and Staged(
                staged["run"], SecretValue(staged["new"].encode()),
                OnFailure(staged["giving_up"]) if staged["giving_up"] else None,
            ),
            old=SecretValue(notes["old"].encode()) if "old" in notes else None,
            disabled=notes.get("disabled", False),
            name=str(self.ref),
            since=from_text(notes["since"]) if "since" in notes else None,
        )  # fmt: skip

    def _write(self, document: Document, before: SecretValue | None) -> Document:
        """The notes first: they say what the value was, so that whoever reads half of it knows which half is new."""
        live, staged = document.live.reveal().decode(), document.staged
        notes = {
            "version": document.version + 1, "run": document.run, "live": live, "disabled": document.disabled,
            "before": before.reveal().decode() if before else None,
        }  # fmt: skip
        if document.since:
            notes["since"] = to_text(document.since)
        if staged:
            giving_up = str(staged.giving_up) if staged.giving_up else None
            notes["staged"] = {"run": staged.run, "new": staged.new.reveal().decode(), "giving_up": giving_up}
        if document.old:
            notes["old"] = document.old.reveal().decode()
        self._set(NOTES, json.dumps(notes))
        if before is None or live != before.reveal().decode():
            self._set("", live)
            self._set(NOTES, json.dumps({**notes, "before": live}))  # the value before is not kept
        return replace(document, version=document.version + 1)

    def _entry(self, ending: str) -> str | None:
        service, user = self._names
        with named(str(self.ref)):
            return self.backend.get_password(service, user + ending)

    def _set(self, ending: str, value: str) -> None:
        service, user = self._names
        with named(str(self.ref)):
            self.backend.set_password(service, user + ending, value)

    @property
    def _names(self) -> tuple[str, str]:
        service, _, user = self.ref.path.rpartition("/")
        if not service or not user:
            raise ConfigurationError(
                "not the form of a keyring's entry", where=str(self.ref), hint="keyring:SERVICE/USER"
            )
        return service, user

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other rotation on this machine, in no thread and no process."""
        self.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self.lock, flags, 0o600), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
