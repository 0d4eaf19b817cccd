"""What `file.quarantine` is told to take, and files of a host as quarantine.sh tells of them."""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass

from pydantic import Field, field_validator, model_validator

from irflow.actions._naming import path_argument, path_bytes, sha256_argument
from irflow.core.action import Params
from irflow.core.model import Json


class QuarantineParams(Params):
    """host: inventory name. paths: absolute; what no text can say as `base64url:BYTES`.

    sha256: by path, the hash it must have, else nothing is touched; without one it is taken as it is found.
    hashes, roots: every file below the roots with one of the hashes. other_file_systems: also what is mounted below
    them. search_s: seconds that may take. max_size: bytes of the largest file that is taken. most: files.
    """

    host: str
    paths: tuple[str, ...] = Field(default=(), max_length=200)
    sha256: dict[str, str] = {}
    hashes: tuple[str, ...] = Field(default=(), max_length=200)
    roots: tuple[str, ...] = Field(default=(), max_length=50)
    other_file_systems: bool = False
    search_s: int = Field(default=60, ge=1, le=3600)
    max_size: int = Field(default=64 << 20, ge=1, le=1 << 30)
    most: int = Field(default=100, ge=1, le=1000)

    @field_validator("paths", "roots")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            path_bytes(one)
        return tuple(dict.fromkeys(value))

    @field_validator("paths")
    @classmethod
    def _files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if path_bytes(one).rpartition(b"/")[2] in (b"", b".", b".."):
                raise ValueError(f"not the path of a file: {one[:100]!r}")
        return value

    @field_validator("hashes")
    @classmethod
    def _hashes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(sha256_argument, value)))

    @field_validator("sha256")
    @classmethod
    def _by_path(cls, value: dict[str, str]) -> dict[str, str]:
        return {path: sha256_argument(one) for path, one in value.items()}

    @model_validator(mode="after")
    def _something(self) -> QuarantineParams:
        if not self.paths and not self.hashes:
            raise ValueError("nothing to take: name paths, or hashes with the roots to search")
        if bool(self.hashes) != bool(self.roots):
            raise ValueError("hashes and roots belong together: which files, and below which folders")
        if strange := set(self.sha256) - set(self.paths):
            raise ValueError(f"sha256 names what paths do not: {', '.join(sorted(strange))[:200]}")
        return self

    def arguments(self) -> list[str]:
        """What to look at, for quarantine.sh."""
        args = [part for one in self.paths for part in ("--path", path_argument(one))]
        if self.hashes:
            args += [part for one in self.roots for part in ("--root", path_argument(one))]
            args += [part for one in self.hashes for part in ("--sha256", one)]
            args += ["--seconds", str(self.search_s), *(["--cross", "yes"] if self.other_file_systems else [])]
        return [*args, "--most", str(self.max_size)]


@dataclass(frozen=True)
class File:
    """One file of a host.

    name: as it was asked for or found, base64url. state: as quarantine.sh has it. mtime: Unix time with nanoseconds, as
    text. links: how many names it has. flags: `i`, `a`. pids: what runs it. folder: where it is, without links,
    base64url.
    """

    name: str
    state: str
    sha256: str
    size: int
    mode: str
    uid: int
    gid: int
    mtime: str
    links: int
    flags: str
    pids: tuple[str, ...]
    folder: str

    @classmethod
    def read(cls, row: str) -> File:
        """From one `file=` line of quarantine.sh, without the key."""
        part = ["" if one == "-" else one for one in row.split(" ")]
        size, uid, gid, links = (int(part[at] or 0) for at in (3, 5, 6, 8))
        pids = tuple(one for one in part[10].split(",") if one)
        return cls(part[0], part[1], part[2], size, part[4], uid, gid, part[7], links, part[9], pids, part[11])

    @property
    def path(self) -> str:
        """Where it is, no link in between, base64url."""
        where = base64.urlsafe_b64decode(self.folder) + b"/" + base64.urlsafe_b64decode(self.name).rpartition(b"/")[2]
        return base64.urlsafe_b64encode(where).decode()

    @property
    def metadata(self) -> dict[str, Json]:
        """What an undo must bring back."""
        keys = ("sha256", "size", "mode", "uid", "gid", "mtime", "links", "flags")
        return {key: value for key, value in asdict(self).items() if key in keys}

    def to_facts(self) -> dict[str, Json]:
        """As JSON for the journal."""
        return {**asdict(self), "pids": list(self.pids)}

    @classmethod
    def from_facts(cls, facts: dict[str, Json]) -> File:
        """Back from the journal."""
        return cls(**{**facts, "pids": tuple(facts["pids"])})


def shown(path: str) -> str:
    """A base64url path for people: on one line; what is not printable is replaced."""
    text = base64.urlsafe_b64decode(path).decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
