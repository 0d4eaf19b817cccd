"""Processes of a host as killtree.sh tells of them, and how people are told of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from irflow.core.model import Json

SHOWN = 8
"""So many processes are named in a sentence."""

_SECRET = re.compile(r"(?i)((?:pass(?:word|wd|phrase)?|secret|token|api[-_]?key)[ =:]+)\S+")
_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib", "/opt/", "/snap/", "/nix/")


@dataclass(frozen=True)
class Process:
    """One process of a host.

    start: clock ticks from the boot to its birth, which with the pid names it for good. began: Unix time, seconds.
    link: how it was found: root, child, program, session, login, cgroup, frozen. sha256: of the program it runs, `-`
    when that could not be read. program: its path, ` (deleted)` behind it when it is gone. state: as ps has it.
    """

    pid: int
    start: int
    uid: str
    state: str
    link: str
    parent: int
    sha256: str
    program: str
    command: str
    parent_name: str
    began: float

    @property
    def mark(self) -> str:
        """What no other process of this boot is called."""
        return f"{self.pid}@{self.start}"

    @property
    def path(self) -> str:
        """Where the program was when it was started."""
        return self.program.removesuffix(" (deleted)")

    @property
    def packaged(self) -> bool:
        """Whether the program lies where packages put theirs, so that others may run it too."""
        return self.path.startswith(_SYSTEM)

    def to_facts(self) -> dict[str, Json]:
        """As JSON for the journal."""
        return asdict(self)

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.began, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.pid} (started {since}, uid {self.uid}, {self.program or 'no program'}: {self.command or '-'})"


def read(said: str) -> tuple[tuple[Process, ...], dict[str, str]]:
    """The processes and the other key=value lines of an answer of killtree.sh."""
    rows: list[list[str]] = []
    other: dict[str, str] = {}
    for line in said.splitlines():
        key, _, value = line.partition("=")
        if key == "process":
            rows.append(value.split(" "))
        elif value:
            other[key] = value
    return tuple(_one(row, other) for row in rows), other


def _one(row: Sequence[str], other: Mapping[str, str]) -> Process:
    pid, start, uid, state, link, parent, sha256, program, command, parent_name = row
    began = int(other["btime"]) + int(start) / int(other["hz"])
    return Process(
        int(pid), int(start), uid, state, link, int(parent), sha256, _text(program), _command(command),
        _text(parent_name.removesuffix("0a")), began,
    )  # fmt: skip


def _text(hexed: str) -> str:
    """Hex as text that shows on one line; what is not printable is replaced."""
    raw = b"" if hexed == "-" else bytes.fromhex(hexed)
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in raw.decode("utf-8", "replace"))


def _command(hexed: str) -> str:
    """A command line for people: at most 120 characters, and no value of what calls itself a password."""
    raw = b"" if hexed == "-" else bytes.fromhex(hexed).rstrip(b"\0").replace(b"\0", b" ")
    text = _SECRET.sub(r"\1***", _text(raw.hex() or "-"))
    return text if len(text) <= 120 else f"{text[:119]}…"


def in_words(processes: Sequence[Process], count: int) -> str:
    """The processes in one sentence. count: how many there are, if not all of them are known."""
    named = "; ".join(str(one) for one in processes[:SHOWN])
    more = count - min(len(processes), SHOWN)
    return f"{named}; and {more} more" if more > 0 else named
