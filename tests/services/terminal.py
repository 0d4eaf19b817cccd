"""A command at a real terminal, and what a person types there."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TYPED_S = 60.0


@dataclass
class Terminal:
    """One running command. seen: all that it has shown."""

    process: subprocess.Popen[bytes]
    ours: int
    seen: str = ""
    read_to: int = 0

    def expect(self, text: str) -> None:
        """Wait until it shows this text after what was waited for before."""
        deadline = time.monotonic() + TYPED_S
        while not (found := re.compile(text).search(self.seen, self.read_to)):
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.seen[self.read_to :]}"
            assert self._read(0.2) or re.compile(text).search(self.seen, self.read_to), f"no {text!r}:\n{self.seen}"
        self.read_to = found.end()

    def type(self, prompt: str, line: str) -> None:
        """Type a line once a prompt with this text is there."""
        self.expect(prompt + r"[^\n]*: $")
        os.write(self.ours, line.encode() + b"\n")

    def end(self) -> int:
        """Wait for its end. Returns the exit status."""
        while self._read(TYPED_S):
            pass
        return self.process.wait(TYPED_S)

    def _read(self, within_s: float) -> bool:
        """False once nobody has the other end open any more."""
        if not select.select([self.ours], [], [], within_s)[0]:
            return self.process.poll() is None
        try:
            self.seen += os.read(self.ours, 65536).decode("utf-8", "replace").replace("\r\n", "\n")
        except OSError:
            return False
        return True


@contextmanager
def terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    """`irflow --home HOME ARGUMENTS` at a terminal of its own; killed at the end if it still runs."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "irflow", "--home", str(home), *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)
