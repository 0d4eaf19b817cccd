"""Evidence on disk: one folder per incident, every item written once, found changed if it ever is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from irflow.adapters.write_once import WriteOnce
from irflow.core.errors import IrflowError
from irflow.core.model import Json
from irflow.core.ports import StoredEvidence


class FileEvidenceStore:
    """core.ports.EvidenceStore in a folder: ROOT/INCIDENT/NAME."""

    def __init__(self, root: Path) -> None:
        self._files = WriteOnce(root, "evidence")

    def put(self, incident: str, name: str, content: bytes) -> StoredEvidence:
        """Write once, synced, read-only; the same name and content again is no error.

        Raises IrflowError when the name exists with other content.
        """
        stored = StoredEvidence(f"{incident}/{name}", hashlib.sha256(content).hexdigest(), len(content))
        if not self._files.put(incident, name, content):
            there = self._files.get(incident, name)
            if there is None or hashlib.sha256(there).hexdigest() != stored.sha256:
                raise IrflowError(
                    "evidence of this name exists with other content", where=str(self._files.root / stored.path),
                    hint="Evidence is never replaced; give the new item another name",
                )  # fmt: skip
        return stored

    def get(self, path: str) -> bytes:
        """The content again. path: as put returned it. Raises IrflowError when it is missing."""
        incident, _, name = path.partition("/")
        content = self._files.get(incident, name)
        if content is None:
            raise IrflowError(
                "this evidence is missing", where=str(self._files.root / path), hint="See irflow evidence verify"
            )
        return content

    def newest(self, incident: str, prefix: str) -> str | None:
        """Path of the item written last whose name starts with prefix."""
        for name in reversed(self._files.names(incident)):
            if name.startswith(prefix):
                return f"{incident}/{name}"
        return None

    def verify(self, entries: Iterable[Mapping[str, Json]]) -> list[dict[str, Json]]:
        """Hash every item again and compare it with its custody entry in the journal (`path`, `sha256`).

        Returns one row per item: path, passed, state (`intact`, `changed`, `missing`), detail, sha256 as found.
        Files in the same folders that no entry names are `unrecorded`: they passed, but prove nothing.
        """
        rows: list[dict[str, Json]] = []
        recorded: dict[str, set[str]] = {}
        for entry in entries:
            path, expected = str(entry["path"]), str(entry["sha256"])
            incident, _, name = path.partition("/")
            recorded.setdefault(incident, set()).add(name)
            found = self._hash(incident, name)
            if not found:
                rows.append(_row(path, "missing", "the journal says it was taken", ""))
            elif found != expected:
                rows.append(_row(path, "changed", f"taken with SHA-256 {expected}, has {found}", found))
            else:
                rows.append(_row(path, "intact", "", found))
        for incident, names in recorded.items():
            rows += [
                _row(f"{incident}/{name}", "unrecorded", "no entry in the journal names it", self._hash(incident, name))
                for name in self._files.names(incident)
                if name not in names
            ]
        return rows

    def _hash(self, incident: str, name: str) -> str:
        content = self._files.get(incident, name)
        return "" if content is None else hashlib.sha256(content).hexdigest()


def _row(path: str, state: str, detail: str, sha256: str) -> dict[str, Json]:
    return {
        "path": path, "passed": state in ("intact", "unrecorded"), "state": state, "detail": detail, "sha256": sha256,
    }  # fmt: skip
