"""Documents on disk: a new version stands beside the old ones, never in their place."""

from __future__ import annotations

import hashlib
from pathlib import Path

from irflow.adapters.write_once import WriteOnce
from irflow.core.errors import IrflowError
from irflow.core.ports import StoredEvidence

MOST_VERSIONS = 1000


class FileDocumentStore:
    """core.ports.DocumentStore in a folder: ROOT/INCIDENT/NAME.md, NAME-2.md, ..."""

    def __init__(self, root: Path) -> None:
        self._files = WriteOnce(root, "document")

    def put(self, incident: str, name: str, text: str) -> StoredEvidence:
        """Write the text as the next version of a document; a text that a version has already writes nothing.

        Raises IrflowError when the disk refuses, or after a thousand versions.
        """
        content = text.encode()
        digest = hashlib.sha256(content).hexdigest()
        for version in range(1, MOST_VERSIONS + 1):
            file = f"{name}.md" if version == 1 else f"{name}-{version}.md"
            path = f"{incident}/{file}"
            if self._files.put(incident, file, content) or self._files.get(incident, file) == content:
                return StoredEvidence(path, digest, len(content))
        raise IrflowError(
            f"{name} has {MOST_VERSIONS} versions", where=str(self._files.root / incident),
            hint="Something writes it again and again",
        )  # fmt: skip

    def get(self, path: str) -> str:
        """A document's text. path: as put returned it. Raises IrflowError when it is missing."""
        incident, _, file = path.partition("/")
        content = self._files.get(incident, file)
        if content is None:
            raise IrflowError("this document is missing", where=str(self._files.root / path))
        return content.decode()
