"""The short-lived process that forks a lab's hosts: single-threaded, and gone when its maker is gone.

Started as `python -m irflow.lab.spawn RUN_DIR INSIDE NAME...`; prints one line `index pid` per host, then waits for
the line `go` on standard input, which says that every host has its network card.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from irflow.lab.host import become_host
from irflow.lab.layout import Layout
from irflow.lab.syscalls import die_with_parent
from irflow.redaction import install


def main(argv: list[str]) -> int:
    """Fork the hosts named in argv; exit status 0 when all of them started."""
    die_with_parent()
    layout = Layout(Path(argv[0]), inside=argv[1] == "1")
    gate, opener = os.pipe()
    children = [_fork(layout, index, name, gate, opener) for index, name in enumerate(argv[2:])]
    failed = [pid for pid in children if os.waitpid(pid, 0)[1]]
    if failed:
        return 1
    sys.stdout.close()
    os.close(1)
    if sys.stdin.readline() != "go\n":
        return 1  # the maker gave up; the hosts see the gate's end and leave
    os.write(opener, b"x" * len(children))
    return 0


def _fork(layout: Layout, index: int, name: str, gate: int, opener: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.close(opener)  # else the gate would never end for this host
        become_host(layout, index, name, 1, gate)
    except OSError as error:
        os.write(2, f"{name}: {error}\n".encode())
    finally:
        os._exit(1)


if __name__ == "__main__":
    install()
    sys.exit(main(sys.argv[1:]))
