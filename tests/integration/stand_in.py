"""An ordinary user who exists only in a mount namespace of the test, and may read this installation of irflow."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import irflow

UID = 4242
SUB_IDS = "standin:300000:65536\n"
NO_SUB_IDS = "someoneelse:300000:65536\n"

# $1: the folder; then, up to `--`, pairs of a closed folder and something within it that has to be readable.
_BECOME = """\
set -eu
d=$1; shift
n=0
while [ "$1" != -- ]; do
    n=$((n + 1)); mkdir -p "$d/open/$n"; mount --bind "$2" "$d/open/$n"
    mountpoint -q "$1" && [ -e "$1/.open" ] || { mount -t tmpfs -o mode=755 none "$1"; : >"$1/.open"; }
    mkdir -p "$2"; mount --bind "$d/open/$n" "$2"
    shift 2
done
shift
for f in passwd group; do mount --bind "$d/$f" "/etc/$f"; done
for f in subuid subgid; do mount --bind "$d/sub" "/etc/$f"; done
cd "$d/home"
exec setpriv --reuid=4242 --regid=4242 --clear-groups env -i HOME="$d/home" TMPDIR="$d/home/tmp" \\
    PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1 "$@"
"""


@dataclass(frozen=True)
class StandIn:
    """The user. folder: everything of it is below; its home and its temporary folder are the user's own."""

    folder: Path

    @property
    def tmp(self) -> Path:
        return self.folder / "home/tmp"

    def irflow(
        self, *arguments: str, sub_ids: str = SUB_IDS, shell: str = "/bin/sh"
    ) -> subprocess.CompletedProcess[str]:
        """Give an irflow command. sub_ids: what /etc/subuid says. shell: the login shell of the account."""
        account = f"standin:x:{UID}:{UID}::{self.folder}/home:{shell}\n"
        (self.folder / "passwd").write_text(Path("/etc/passwd").read_text() + account)
        (self.folder / "group").write_text(Path("/etc/group").read_text() + f"standin:x:{UID}:\n")
        (self.folder / "sub").write_text(sub_ids)
        argv = [sys.executable, "-m", "irflow", *arguments]
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", _BECOME, "sh", str(self.folder), *_closed(), "--", *argv],
            capture_output=True, text=True, timeout=170, stdin=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The user, with nothing of it left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="irflow-standin-"))
    folder.chmod(0o755)
    try:
        for one in (folder / "home", folder / "home/tmp"):
            one.mkdir()
            shutil.chown(one, UID, UID)
        yield StandIn(folder)
    finally:
        shutil.rmtree(folder)


def _closed() -> list[str]:
    """Pairs of a folder that others may not enter, and what irflow needs from within it."""
    pairs = []
    code = Path(irflow.__file__).parents[2]
    for wanted in dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), code)):
        for above in reversed(wanted.parents):
            if not above.stat().st_mode & 0o001:
                pairs += [str(above), str(wanted)]
                break
    return pairs
