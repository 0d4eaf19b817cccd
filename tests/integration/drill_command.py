"""`irflow drill` as a person gives it, and what is left of one, found without irflow's own code."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from irflow.lab.layout import Layout
from tests.integration.lab_leftovers import leftovers
from tests.services.irflow_site import until

IRFLOW = (sys.executable, "-m", "irflow")
WITHIN_S = 300.0


@dataclass(frozen=True)
class Done:
    """A command that has ended. out, err: what it wrote."""

    code: int
    out: str
    err: str

    def line(self, start: str) -> str:
        """What follows `start` in the one line of standard error that begins with it."""
        (found,) = [one.removeprefix(start) for one in self.err.splitlines() if one.startswith(start)]
        return found.strip()


def irflow(*arguments: str | Path, tmp: Path) -> Done:
    """Run to the end. tmp: where temporary folders go."""
    done = subprocess.run(
        [*IRFLOW, *map(str, arguments)], capture_output=True, text=True, timeout=WITHIN_S, stdin=subprocess.DEVNULL,
        env=_environment(tmp),
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for that of a unix socket below it (unix(7): 108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="irflow-t-") as folder:
        yield Path(folder)


def _environment(tmp: Path) -> dict[str, str]:
    """Ours, without the width of a test's terminal."""
    return {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TMPDIR": str(tmp)}


class Running:
    """A drill under way in a process group of its own, as in a terminal."""

    def __init__(self, *arguments: str, tmp: Path) -> None:
        self._err = tmp / "stderr"
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*IRFLOW, "drill", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                env=_environment(tmp), start_new_session=True,
            )  # fmt: skip

    @property
    def err(self) -> str:
        return self._err.read_text()

    def reached(self, text: str, within_s: float = 60.0) -> None:
        """Wait until it has said something."""

        def said() -> bool:
            assert self.process.poll() is None, f"the drill ended: {self.err}"
            return text in self.err

        until(said, within_s, f"the drill says {text!r}")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever the test did: it ends, and its guard cleans up."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()


def left(tmp: Path) -> list[str]:
    """Everything that still belongs to a drill whose home is below `tmp`: processes, namespaces, mounts, folders."""
    found = [f"folder {one}" for one in sorted(tmp.glob("irflow-drill-*"))]
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and int(name) != os.getpid():
                line = Path(f"/proc/{name}/cmdline").read_bytes()
                if str(tmp).encode() in line or str(tmp).encode() in _own(name):
                    found.append(f"process {name} {line[:100]!r}")
    for home in {*tmp.glob("irflow-drill-*"), tmp}:
        found += leftovers(home / "lab", Layout(home / "lab").id)
    return found


def _own(name: str) -> bytes:
    """The environment but for TMPDIR, which whatever the test itself starts has too."""
    variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
    return b"\0".join(one for one in variables if not one.startswith((b"TMPDIR=", b"PYTEST")))
