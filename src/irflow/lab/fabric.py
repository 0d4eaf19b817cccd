"""The lab's network: a switch in a namespace of its own, with the responder, the attacker and the hosts on it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from irflow.lab.layout import GATEWAY, MARKER, VANTAGES, Layout
from irflow.lab.model import LabError


def build(layout: Layout) -> None:
    """Make the switch and the two vantage points. Raises LabError."""
    for part in ("net", *(part for part, _ in VANTAGES.values())):
        _ip(layout, ["netns", "add", layout.netns(part).name])
    lines = ["link set lo up", "link add br0 type bridge", "link set br0 up", f"addr add {GATEWAY}/16 dev br0"]
    for part, _ in VANTAGES.values():
        lines.append(f"link add {part} type veth peer name eth0 netns {layout.netns(part).name}")
        lines.append(f"link set {part} master br0 up")
    _batch(layout, "net", lines)
    for part, (v4, v6) in VANTAGES.values():
        up = ["link set lo up", "link set eth0 up", f"addr add {v4}/16 dev eth0", f"addr add {v6}/64 dev eth0 nodad"]
        _batch(layout, part, up)


def plug_in(layout: Layout, pids: Sequence[int]) -> None:
    """Give each host, by the pid of its process 1, a network card on the switch. Raises LabError."""
    lines = []
    for index, pid in enumerate(pids):
        lines.append(f"link add {_port(index)} type veth peer name eth0 netns {pid}")
        lines.append(f"link set {_port(index)} master br0 up")
    _batch(layout, "net", lines)


def set_cable(layout: Layout, index: int, *, up: bool) -> None:
    """Pull (or put back) the cable of the host with this index: its card sees no carrier. Raises LabError."""
    _batch(layout, "net", [f"link set {_port(index)} {'up' if up else 'down'}"])


def _port(index: int) -> str:
    return f"v{index}"


def _batch(layout: Layout, part: str, lines: Sequence[str]) -> None:
    _ip(layout, ["-n", layout.netns(part).name, "-batch", "-"], "\n".join(lines) + "\n")


def _ip(layout: Layout, arguments: Sequence[str], stdin: str = "") -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", MARKER: layout.id}
    done = subprocess.run(["ip", *arguments], input=stdin, capture_output=True, text=True, env=environment, timeout=60)
    if done.returncode:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}", where=str(layout.run_dir))
