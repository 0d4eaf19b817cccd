"""What `process.kill_tree` is told to kill, and how killtree.sh is told."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from irflow.actions._naming import path_argument, path_bytes, sha256_argument
from irflow.core.action import Params
from irflow.core.model import parse_duration

_PROCESS = re.compile(r"([1-9][0-9]{0,9})@(.+)")
_TICKS = re.compile(r"(?:0|[1-9][0-9]{0,14})")


def process_argument(text: str) -> str:
    """`4711@8675309` or `4711@2026-11-23T10:47:59Z` as killtree.sh takes it. Raises ValueError."""
    match = _PROCESS.fullmatch(text)
    if not match:
        raise ValueError(
            f"{text[:60]!r} does not name a process for good, as pids are used again: give PID@START, with START the "
            f"22nd field of /proc/PID/stat or the time it was started (2026-11-23T10:47:59Z)"
        )
    pid, start = match.groups()
    if pid == "1":
        raise ValueError("process 1 is never killed")
    if _TICKS.fullmatch(start):
        return f"{pid}:ticks:{start}"
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        raise ValueError(
            f"{start[:60]!r} is no time: say 2026-11-23T10:47:59Z, or clock ticks since the boot"
        ) from None
    if moment.tzinfo is None:
        raise ValueError(f"{start} does not say in which time zone: end it with Z or +02:00")
    return f"{pid}:epoch:{int(moment.astimezone(UTC).timestamp())}"


def _seconds(value: object) -> float:
    return parse_duration(value).total_seconds()


class KillParams(Params):
    """host: inventory name. What to kill, all that is named:

    pids: `PID@START`, START being the clock ticks of /proc/PID/stat's field 22 or the time of birth, `4711@8675309`,
    `4711@2026-11-23T10:47:59Z`. children_of: the same, but what is below it dies and itself goes on.
    paths: programs, or scripts that an interpreter runs; also deleted ones; `base64url:BYTES` for what no text can say.
    hashes: SHA-256 of programs, wherever they lie or lay.

    reach: how far it goes from there: `tree` their children, `session` also their sessions, log-ins and whatever runs
    the same program (unless it lies where packages put theirs), `cgroup` also their control group.
    most: of more processes than that none is touched. watch: how long after the kill nothing of it may come back, at
    most 5 minutes. record: keep a record and the programs before; without it nothing is kept. max_program: bytes.
    """

    host: str
    pids: tuple[str, ...] = Field(default=(), max_length=200)
    children_of: tuple[str, ...] = Field(default=(), max_length=200)
    paths: tuple[str, ...] = Field(default=(), max_length=50)
    hashes: tuple[str, ...] = Field(default=(), max_length=200)
    reach: Literal["tree", "session", "cgroup"] = "cgroup"
    most: int = Field(default=500, ge=1, le=20000)
    watch: Annotated[float, BeforeValidator(_seconds)] = Field(default=1.0, ge=0.1, le=300)
    record: bool = True
    max_program: int = Field(default=64 << 20, ge=1, le=1 << 30)

    @field_validator("pids", "children_of")
    @classmethod
    def _processes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            process_argument(one)
        return tuple(dict.fromkeys(value))

    @field_validator("paths")
    @classmethod
    def _paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            path_bytes(one)
        return tuple(dict.fromkeys(value))

    @field_validator("hashes")
    @classmethod
    def _hashes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(sha256_argument, value)))

    @model_validator(mode="after")
    def _something(self) -> KillParams:
        if not (self.pids or self.children_of or self.paths or self.hashes):
            raise ValueError("nothing to kill: name pids, children_of, paths or hashes")
        return self

    def selectors(self) -> list[str]:
        """What is meant, as arguments of killtree.sh."""
        pairs = [
            *(("--pid", process_argument(one)) for one in self.pids),
            *(("--children", process_argument(one)) for one in self.children_of),
            *(("--path", path_argument(one)) for one in self.paths),
            *(("--sha256", one) for one in self.hashes),
        ]
        return [part for pair in pairs for part in pair]
