"""An attacker's interactive SSH session: a real OpenSSH client with a terminal on the host."""

from __future__ import annotations

import os
import secrets
import selectors
import subprocess
import threading
import time
from collections.abc import Sequence

from irflow.lab.lab import Lab
from irflow.lab.model import LabError, LabHost
from irflow.lab.vantage import ssh_argv

_KEPT = 65536  # bytes of unread output looked through for an answer


class Session:
    """A shell on a host, typed into from the attacker's network. Safe to use from several threads.

    login: the OpenSSH command line that opens it; None logs in with the attacker's own key. remote: what runs there.
    """

    def __init__(
        self,
        lab: Lab,
        host: LabHost,
        *,
        login: Sequence[str] | None = None,
        remote: str = "/bin/sh",
        timeout_s: float = 10.0,
    ) -> None:
        """Log in and wait until the shell answers. Raises LabError."""
        self._host = host
        self._lock = threading.Lock()
        ssh = login or ssh_argv(lab, host, "attacker", connect_s=max(1, int(timeout_s)))
        # An sshd that is not root may not hand out terminals: the loopback level goes without.
        terminal = "-tt" if lab.level.proves_packets else "-T"
        at = ssh.index("-F")
        argv = [*ssh[:at], terminal, *ssh[at:], remote]
        self._client: subprocess.Popen[bytes] = lab.popen_from("attacker", argv)
        if self._client.stdin is None or self._client.stdout is None:
            raise LabError("the SSH client has no pipes", where=host.name)
        self._keyboard, self._screen = self._client.stdin, self._client.stdout
        try:
            self._type("stty -echo 2>/dev/null; set +m; PS1=; PS2=")
            if not self.echoes(timeout_s):
                raise LabError("the attacker's session does not answer", where=host.name)
        except BaseException:
            self.close()
            raise

    def echoes(self, timeout_s: float = 2.0) -> bool:
        """Whether a command typed now is answered within timeout_s seconds."""
        return self.ask("", timeout_s) is not None

    def ask(self, command: str, timeout_s: float) -> str | None:
        """Type a command (one line, at most 4000 characters); its output, or None without an answer in time."""
        if len(command) > 4000:
            raise LabError("a terminal line takes at most 4000 characters", where=self._host.name)
        word = secrets.token_hex(8)
        with self._lock:
            # The terminal shows what is typed; the end mark is split there, so that only its output matches.
            if not self._type(f"echo A-''{word}; {command or ':'}; echo Z-''{word}"):
                return None
            return self._read(f"A-{word}".encode(), f"Z-{word}".encode(), time.monotonic() + timeout_s)

    def close(self) -> None:
        """End the client; twice is fine."""
        if self._client.poll() is None:
            self._client.kill()
        self._client.wait()
        for pipe in (self._keyboard, self._screen, self._client.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was typed last can no longer be sent

    def _type(self, line: str) -> bool:
        try:
            self._keyboard.write(line.encode() + b"\n")
            self._keyboard.flush()
        except (OSError, ValueError):
            return False  # the client ended
        return True

    def _read(self, begin: bytes, end: bytes, deadline: float) -> str | None:
        handle = self._screen.fileno()
        text = b""
        with selectors.DefaultSelector() as waiting:
            waiting.register(handle, selectors.EVENT_READ)
            while end not in text:
                left = deadline - time.monotonic()
                if left <= 0 or not waiting.select(left):
                    return None
                piece = os.read(handle, 4096)
                if not piece:
                    return None
                text = (text + piece)[-_KEPT:]
        return text.partition(begin)[2].partition(end)[0].decode(errors="replace").replace("\r\n", "\n").strip("\n")
