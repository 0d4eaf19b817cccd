"""Whether a port is free, and who has it if not."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from irflow.core.errors import ServiceMissing

_LISTEN = "0A"


def require_free(host: str, port: int, service: str) -> None:
    """Raises ServiceMissing naming the port, the service that needs it and, where we may know, who has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ServiceMissing(
                f"{service} needs port {port} on {host}: {error.strerror}{holder(port)}",
                hint=f"End that process, or set {service}_port in irflow.yaml",
            ) from None


def holder(port: int) -> str:
    """` (NAME, pid N)` of the process that listens on a TCP port; empty when it cannot be seen."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if any(str(path.readlink()) in inodes for path in (process / "fd").iterdir()):
                return f" ({(process / 'comm').read_text().strip()}, pid {process.name})"
    return ""


def _listening(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found
