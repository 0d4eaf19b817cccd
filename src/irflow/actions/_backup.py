"""What `backup.emergency` saves: its items, how they are named in the repository, and what a host says about them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass

from irflow.core.action import Context
from irflow.core.model import Json

_BYTES = "base64url:"


@dataclass(frozen=True)
class Item:
    """One stream. kind: `tar` or `pg_dump`. what: for people. problem: why it cannot be saved, empty when it can.

    name: its path in the repository. key: what it is saved under; the same for the same step and content. arguments:
    for backup.sh. size: an estimate in bytes, None when it is not known. missing: paths of it that are not there.
    """

    kind: str
    what: str
    name: str
    key: str
    arguments: tuple[str, ...]
    size: int | None = None
    missing: tuple[str, ...] = ()
    problem: str = ""

    def to_data(self) -> dict[str, Json]:
        """As it stands in the journal."""
        return {**vars(self), "arguments": list(self.arguments), "missing": list(self.missing)}

    @classmethod
    def from_data(cls, data: dict[str, Json]) -> Item:
        """Back from the journal."""
        return cls(**{**data, "arguments": tuple(data["arguments"]), "missing": tuple(data["missing"])})


def decoded(path: str) -> bytes:
    """The bytes of a path: its UTF-8, or what follows `base64url:`. Raises ValueError if it is not absolute."""
    if path.startswith(_BYTES):
        text = path.removeprefix(_BYTES)
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    else:
        found = path.encode()
    if not found.startswith(b"/") or b"\0" in found:
        raise ValueError(f"not an absolute path: {path[:200]!r}")
    if b".." in found.split(b"/"):
        raise ValueError(f"a path with `..` may lead elsewhere: {path[:200]!r}")
    return found


def encoded(name: bytes) -> str:
    """As backup.sh takes names."""
    return base64.urlsafe_b64encode(name).decode()


def in_words(size: int | None) -> str:
    """`about 12 MB`, or that nobody knows."""
    if size is None:
        return "size not known"
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"about {size} {unit}"
        size = -(-size // 1000)
    return f"about {size} TB"


def key_of(context: Context, content: Json) -> str:
    """What an item is saved under: hash of incident, step and content, so that no other step finds it."""
    text = json.dumps([context.incident.id, context.step.key, content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def file_name(host: str, what: str, ending: str) -> str:
    """An absolute path in the repository that needs no quoting anywhere. Names that lose characters stay apart."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", what)[:100]
    mark = "" if plain == what else f"-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
    return f"/{host}/{plain}{mark}.{ending}"


def report(stderr: bytes) -> dict[str, Json]:
    """What backup.sh said of a stream: sha256, and what changed or was left out while it was read.

    Names are as tar writes them: printable, other bytes in octal. Raises KeyError without the last line.
    """
    lines = stderr.decode("ascii", "replace").splitlines()
    last = dict(word.split("=", 1) for word in (lines[-1] if lines else "").split() if "=" in word)
    named: dict[str, list[str]] = {"changed": [], "left_out": [], "said": []}
    for line in lines[:-1]:
        word, _, text = line.partition(" ")
        if word in named:
            named[word].append(text.removeprefix("."))
    return {
        "sha256": last["sha256"], "changed_count": int(last["changed"]), "left_out_count": int(last["left_out"]),
        **named,
    }  # fmt: skip
