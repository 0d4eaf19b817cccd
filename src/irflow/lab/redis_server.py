"""A Redis server beside the lab's hosts, with users whose passwords can leak."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from irflow.lab import command, server
from irflow.lab.lab import Lab
from irflow.lab.model import LabError

_ANSWER_S = 5.0


@dataclass(frozen=True)
class LabCache:
    """One running server. port: on 127.0.0.1."""

    folder: Path
    port: int

    def opens(self, user: str, password: str) -> bool:
        """Whether the password opens the user."""
        with suppress(LabError), CacheSession(self.port) as session:
            return session.log_in(user, password)
        return False


class CacheSession:
    """One connection that speaks Redis's own protocol (RESP 2), as any client does."""

    def __init__(self, port: int) -> None:
        """Connect. Raises LabError."""
        try:
            self._link = socket.create_connection(("127.0.0.1", port), _ANSWER_S)
        except OSError as error:
            raise LabError(f"Redis cannot be reached: {error}", where=f"127.0.0.1:{port}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; twice is fine."""
        self._link.close()

    def log_in(self, user: str, password: str) -> bool:
        """Whether the server takes them."""
        return self.ask("AUTH", user, password) == "+OK"

    def alive(self) -> bool:
        """Whether a command of an open session is answered."""
        try:
            return self.ask("GET", "x")[:1] in ("$", "_")
        except LabError:
            return False

    def ask(self, *words: str) -> str:
        """Send a command; the first line of its answer. Raises LabError when none comes."""
        parts = [f"*{len(words)}\r\n".encode()]
        parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
        try:
            self._link.sendall(b"".join(parts))
            said = self._link.recv(4096)
        except OSError:
            said = b""
        if not said:
            raise LabError("Redis hung up", where=str(words[0]))
        return said.decode(errors="replace").split("\r\n")[0]


def start(lab: Lab, users: str) -> LabCache:
    """Make a server and wait until it answers. users: its ACL file's lines. Raises ServiceMissing, LabError."""
    home = server.folder(lab, "redis")
    found = LabCache(home, server.free_port())
    (home / "users.acl").write_text(users)
    (home / "users.acl").chmod(0o600)
    (home / "redis.conf").write_text(
        f'bind 127.0.0.1\nport {found.port}\ndir {home}\nsave ""\ndaemonize no\naclfile {home}/users.acl\n'
        "set-proc-title no\n"  # a title would be written over the environment, and with it the lab's mark
    )

    def answers() -> bool:
        with suppress(LabError), CacheSession(found.port) as session:
            return session.ask("PING").startswith(("+PONG", "-NOAUTH"))
        return False

    server.start(lab, [command.program("redis-server"), str(home / "redis.conf")], home / "log", answers)
    return found
