"""What `backup.emergency` saves: its items, how they are named in the repository, and what a host says about them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from irflow.actions._naming import encoded, path_bytes
from irflow.actions._remote import call, fields
from irflow.core.action import Context, Params
from irflow.core.errors import IrflowError
from irflow.core.model import Json

SCRIPT = "backup.sh"

_LOOK_S = 2
"""How long the host may count bytes for the estimate: what is cut off should be on its way soon."""

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def _bytes(value: object) -> object:
    """`500M`, `20G` or a number of bytes."""
    if isinstance(value, str) and value[:-1].isascii() and value[:-1].isdigit() and value[-1:] in _UNITS:
        return int(value[:-1]) * _UNITS[value[-1]]
    return value


class BackupParams(Params):
    """host: inventory name. paths: absolute; what no text can say as `base64url:BYTES`. databases: PostgreSQL's names.

    exclude: absolute shell patterns of what to leave out (`/srv/*/cache`). max_size: most bytes per item, or `20G`.
    other_file_systems: also what is mounted below the paths. database_account, database_port: who and where pg_dump is.
    """

    host: str
    paths: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    max_size: Annotated[int, BeforeValidator(_bytes)] = Field(default=50 * 10**9, gt=0)
    other_file_systems: bool = False
    database_account: str = Field(default="postgres", pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    database_port: int | None = Field(default=None, ge=1, le=65535)

    @field_validator("paths", "exclude")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            inside(one)
        return tuple(dict.fromkeys(value))

    @field_validator("databases")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            # PostgreSQL cuts longer names off (NAMEDATALEN, 64 with the final zero).
            if not one or "\0" in one or len(one.encode()) > 63:
                raise ValueError(f"not the name of a database: {one[:100]!r}")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _something(self) -> BackupParams:
        if not self.paths and not self.databases:
            raise ValueError("nothing to back up: name paths or databases")
        return self


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


def inside(path: str) -> bytes:
    """The bytes of an absolute path that leads nowhere else, see path_bytes. Raises ValueError."""
    found = path_bytes(path)
    if b".." in found.split(b"/"):
        raise ValueError(f"a path with `..` may lead elsewhere: {path[:200]!r}")
    return found


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

    Names are as tar writes them: printable, other bytes in octal. Raises IrflowError without the last line.
    """
    lines = stderr.decode("ascii", "replace").splitlines()
    last = dict(word.split("=", 1) for word in (lines[-1] if lines else "").split() if "=" in word)
    named: dict[str, list[str]] = {"changed": [], "left_out": [], "said": []}
    for line in lines[:-1]:
        word, _, text = line.partition(" ")
        if word in named:
            named[word].append(text.removeprefix("."))
    if not {"sha256", "changed", "left_out"} <= last.keys():
        raise IrflowError("the host did not say what it sent", hint="Nothing was kept; back it up again")
    return {
        "sha256": last["sha256"], "changed_count": int(last["changed"]), "left_out_count": int(last["left_out"]),
        **named,
    }  # fmt: skip


# ---------------------------------------------------------------- what there is


def items_of(params: BackupParams, context: Context) -> list[Item]:
    """What is asked for, before anybody looked at the host."""
    items = []
    if params.paths:
        arguments = [f"path:{encoded(inside(one))}" for one in params.paths]
        arguments += [part for one in params.exclude for part in ("--exclude", encoded(inside(one)))]
        arguments += ["--cross"] if params.other_file_systems else []
        items.append(
            Item(
                "tar", ", ".join(params.paths), file_name(params.host, "files", "tar"),
                key_of(context, arguments), tuple(arguments),
            )
        )  # fmt: skip
    for database in params.databases:
        arguments = [f"database:{encoded(database.encode())}", *_where(params)]
        items.append(
            Item(
                "pg_dump", f"the database {database}", file_name(params.host, database, "dump"),
                key_of(context, arguments), tuple(arguments),
            )
        )  # fmt: skip
    return items


def _where(params: BackupParams) -> list[str]:
    port = ["--port", str(params.database_port)] if params.database_port else []
    return ["--account", params.database_account, *port]


def look(params: BackupParams, items: list[Item], context: Context) -> list[Item]:
    """The items with their size, or with what keeps them from being saved."""
    arguments = [part for item in items for part in item.arguments]
    said = fields(call(context, SCRIPT, ["look", "--seconds", str(_LOOK_S), *arguments]).text)
    found, number = [], 0
    for item in items:
        if item.kind == "tar":
            missing = tuple(one for index, one in enumerate(params.paths) if f"path.{index}" in said)
            size = int(said["bytes"]) if said.get("bytes", "").isdigit() else None
            problem = "none of it is there" if len(missing) == len(params.paths) else _too_large(params, size)
        else:
            missing, size = (), int(said.get(f"database.{number}.bytes") or 0) or None
            problem = _no_database(params, said, said.get(f"database.{number}.said", "")) or _too_large(params, size)
            number += 1
        found.append(Item(item.kind, item.what, item.name, item.key, item.arguments, size, missing, problem))
    return found


def _no_database(params: BackupParams, said: dict[str, str], error: str) -> str:
    """Why a database cannot be dumped. Without psql nobody knows before pg_dump has tried."""
    if said.get("pg_dump") == "missing":
        return "pg_dump is not installed on the host; install postgresql-client there, or leave the database out"
    if said.get("account") == "missing":
        return f"the host has no account {params.database_account}; set database_account"
    return "" if error in ("", "psql is not installed") else error


def _too_large(params: BackupParams, size: int | None) -> str:
    if size is None or size <= params.max_size:
        return ""
    return (
        f"it is {in_words(size)}, more than max_size allows ({in_words(params.max_size)}); raise that, or exclude some"
    )
