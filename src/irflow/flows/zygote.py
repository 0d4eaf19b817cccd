"""The preloaded parent: single-threaded, it forks one process per flow run and tells when each has ended.

It speaks lines of JSON over a socket. To it: {"run": ID, "flow": NAME} | {"signal": N, "of": ID}. From it:
{"ready": PID} | {"started": ID, "pid": PID} | {"ended": ID, "status": N}, N as of waitstatus_to_exitcode.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from irflow.redaction import told

PR_SET_PDEATHSIG = 1
END_GRACE_S = 8.0
"""How long running flow runs may take to end their steps when the worker is gone."""

Job = Callable[[str, str], int]
"""(flow run's id, flow's name) -> exit status."""


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent dies (prctl(2)). Linux only."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def single_threaded() -> bool:
    """Whether this process has one thread, those of C libraries counted: only then is a fork without exec sound."""
    return len(os.listdir("/proc/self/task")) == 1


def spawn(prepare: Callable[[], None], job: Job) -> tuple[int, socket.socket]:
    """Fork the zygote from this process, which must be single-threaded; (its pid, our end of its socket).

    prepare: called in the zygote before each fork. job: runs one flow run in its own process, returns its exit status.
    Raises RuntimeError when a thread is running already.
    """
    if not single_threaded():
        raise RuntimeError("threads were started before the worker could fork; no flow run would be safe")
    ours, theirs = socket.socketpair()
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()  # so that the end of the worker closes the socket, and with it the zygote
            status = Zygote(theirs, prepare, job).serve()
        except BaseException as error:  # noqa: BLE001 - nothing of the parent's stack may run in this process
            sys.stderr.write(told(error))
        finally:
            _exit(status)
    theirs.close()
    return pid, ours


def _exit(status: int) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


class Zygote:
    """Serves until its socket is closed; then it ends its children, first politely."""

    def __init__(self, sock: socket.socket, prepare: Callable[[], None], job: Job) -> None:
        self._sock, self._prepare, self._job = sock, prepare, job
        self._children: dict[int, str] = {}
        self._signalled: set[tuple[int, int]] = set()
        self._buffer = b""
        self._wake_read, self._wake_write = os.pipe()

    def serve(self) -> int:
        """Work until the worker is gone. Returns the exit status."""
        # A terminal's or a supervisor's signal to the whole group is for the worker; its end is ours.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._tell({"ready": os.getpid()})
            self._loop()
        self._end_children()
        return 0

    def _loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                    self._reap()
                if self._sock in ready:
                    data = self._sock.recv(65536)
                    if not data:
                        return
                    self._buffer += data
                    while b"\n" in self._buffer:
                        line, self._buffer = self._buffer.split(b"\n", 1)
                        self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        if "run" in message:
            self._fork(str(message["run"]), str(message["flow"]))
        else:
            for pid in [pid for pid, name in self._children.items() if name == message["of"]]:
                self._signal(pid, int(message["signal"]))

    def _fork(self, run: str, flow: str) -> None:
        self._prepare()
        if not single_threaded():
            raise RuntimeError("a thread was started in the zygote")
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_run(run, flow, parent)
        self._children[pid] = run
        self._tell({"started": run, "pid": pid})

    def _become_run(self, run: str, flow: str, parent: int) -> NoReturn:
        """The rest of the life of one flow run's process."""
        status = 1
        try:
            # Out of the worker's group, so that SIGTERM comes once: a second one would break an orderly end.
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            # Prefect turns the first SIGTERM into an orderly end and then calls this one.
            signal.signal(signal.SIGTERM, _terminated)
            die_with_parent(signal.SIGTERM)
            self._sock.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            if os.getppid() == parent:
                status = self._job(run, flow)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:  # noqa: BLE001 - nothing of the zygote's stack may run in this process
            sys.stderr.write(told(error))
        _exit(status)

    def _reap(self) -> None:
        while self._children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self._children.pop(pid, None)
            self._signalled -= {(pid, signal.SIGTERM), (pid, signal.SIGKILL)}
            if run is not None:
                self._tell({"ended": run, "status": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, Any]) -> None:
        self._sock.sendall(json.dumps(message).encode() + b"\n")

    def _end_children(self) -> None:
        """SIGTERM, a while for the steps that are under way, SIGKILL."""
        self._tell = lambda message: None  # type: ignore[method-assign]
        for pid in self._children:
            self._signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + END_GRACE_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            while self._children and time.monotonic() < deadline:
                selector.select(deadline - time.monotonic())
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
        for pid in self._children:
            self._signal(pid, signal.SIGKILL)

    def _signal(self, pid: int, number: int) -> None:
        """To a child that was not reaped yet, so the number is still its own; each signal once."""
        if (pid, number) not in self._signalled:
            self._signalled.add((pid, number))
            os.kill(pid, number)


def _terminated(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
