"""A network cable between a client and a server that a test can pull."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self


@dataclass
class Cable:
    """Passes connections on to a server, until it is cut: then nothing comes through and nothing is closed.

    end: the server: (host, port), or the path of its unix socket. path: listens there instead of on a loopback port.
    """

    end: tuple[str, int] | str
    path: Path | None = None
    port: int = 0
    _open: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._whole = threading.Event()
        self._whole.set()
        self._over = False
        self._listener = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        self._listener.bind(str(self.path) if self.path else ("127.0.0.1", 0))
        self._listener.listen(64)
        if not self.path:
            self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self.mend()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def cut(self) -> None:
        """Nothing gets through from now on; who waits for an answer goes on waiting."""
        self._whole.clear()

    def mend(self) -> None:
        """New connections get through; those of before the cut are lost."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()
        self._whole.set()

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(near,), daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        self._open.append(near)
        self._whole.wait(60)
        far = socket.socket(socket.AF_UNIX if isinstance(self.end, str) else socket.AF_INET)
        with near, far, selectors.DefaultSelector() as ready, suppress(OSError):
            far.connect(self.end)
            self._open.append(far)
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in ready.select():
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    self._whole.wait(60)
                    key.data.sendall(data)
