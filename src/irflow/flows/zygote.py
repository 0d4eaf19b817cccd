"""A single-threaded parent with everything imported, from which every flow run is forked in milliseconds.

It speaks JSON lines over a socket pair: `{"run": ID, "flow": NAME}` comes in, `{"started": ID, "pid": N}` and
`{"ended": ID, "status": N}` go out. It is forked before its worker imports Prefect, so it has no threads to lose.
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
import threading
from typing import NoReturn
from uuid import UUID

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, however that happens (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def fork_zygote() -> tuple[int, socket.socket]:
    """Fork the zygote. Returns its pid and our end of the socket. Call it before any import of Prefect."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    ours.close()
    die_with_parent()
    if os.getppid() == parent:
        _serve(theirs)
    os._exit(1)


def _serve(sock: socket.socket) -> NoReturn:
    """Fork what is asked for until the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _preload()
    if threading.active_count() != 1:
        sys.stderr.write(f"the parent of flow runs has threads: {threading.enumerate()}\n")
        os._exit(1)
    gc.collect()
    gc.freeze()
    ready, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: dict[int, str] = {}
    _say(sock, {"ready": os.getpid()})
    with selectors.DefaultSelector() as waiting:
        waiting.register(sock, selectors.EVENT_READ)
        waiting.register(ready, selectors.EVENT_READ)
        buffer = b""
        while True:
            for key, _ in waiting.select():
                if key.fileobj is sock:
                    data = sock.recv(65536)
                    if not data:
                        os._exit(0)
                    *lines, buffer = (buffer + data).split(b"\n")
                    for line in lines:
                        _start(sock, json.loads(line), children)
                else:
                    os.read(ready, 4096)
            _reap(sock, children)


def _preload() -> None:
    """Import all that a flow run will need."""
    import prefect.client.orchestration
    import prefect.engine
    import prefect.events.clients
    import prefect.flow_engine
    import prefect.logging.handlers
    import prefect.results
    import prefect.task_engine
    import prefect.task_runners  # noqa: F401


def _say(sock: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):
        sock.sendall(json.dumps(message).encode() + b"\n")


def _start(sock: socket.socket, request: dict[str, str], children: dict[int, str]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sock.close()
        die_with_parent()
        os._exit(1 if os.getppid() != parent else _run(request["run"], request["flow"]))
    children[pid] = request["run"]
    _say(sock, {"started": request["run"], "pid": pid})


def _reap(sock: socket.socket, children: dict[int, str]) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(sock, {"ended": children.pop(pid, ""), "status": os.waitstatus_to_exitcode(status)})


def _run(flow_run_id: str, flow_name: str) -> int:
    """In the child: run one of our own flows under an existing flow run. Returns the exit status."""
    os.environ["PREFECT__FLOW_RUN_ID"] = flow_run_id
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import load_flow_run, run_flow
    from prefect.logging.handlers import APILogHandler

    from irflow.flows.deployments import FLOWS

    status = 0
    try:
        with handle_engine_signals(UUID(flow_run_id)):
            flow = FLOWS[flow_name]
            run = load_flow_run(flow_run_id=UUID(flow_run_id))
            run_flow(flow, flow_run=run, return_type="state")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the child's last line; the worker reports the run as crashed
        sys.stderr.write(f"flow run {flow_run_id}: {type(error).__name__}: {error}\n")
        status = 1
    with contextlib.suppress(Exception):
        APILogHandler().flush()
    sys.stdout.flush()
    sys.stderr.flush()
    return status
