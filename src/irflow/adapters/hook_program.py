"""One call of a hook's program: the request on its standard input, the answer on its output; bounded."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from irflow.adapters.deadline import Deadline
from irflow.core.errors import DeadlineExceeded, HookFailed, ServiceMissing

MOST_BYTES = 1 << 16
"""Of standard output and of standard error, each; an answer has a few hundred."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_AFTERWARDS_S = 0.1
"""How long what the program left in its pipes is still read, though a child of its may keep them open."""


def run(argv: Sequence[str], request: bytes, deadline: Deadline, *, label: str, where: str) -> bytes:
    """Run argv, never through a shell, and return its standard output. label, where: for errors.

    The program gets no environment of ours but PATH, HOME and LANG. Raises ServiceMissing (not started),
    HookFailed (status other than 0, or too much output), DeadlineExceeded (killed, with its children).
    """
    environment = {"PATH": _PATH, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}
    with tempfile.TemporaryFile() as given:  # a program that does not read its input must not block us
        given.write(request)
        given.seek(0)
        try:
            process = subprocess.Popen(
                argv, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ServiceMissing(
                f"{label}: {argv[0]} cannot be run: {reason}", where=where, hint="Look at its path and permissions"
            ) from None
    with process:
        try:
            output, errors = _listen(process, deadline)
            process.wait(deadline.left())
        except (TimeoutError, subprocess.TimeoutExpired):
            raise DeadlineExceeded(
                f"{label}: no answer within {deadline.seconds:g} s", where=where,
                hint="What it did is unknown; look at what is behind it",
            ) from None  # fmt: skip
        except OverflowError:
            raise HookFailed(f"{label}: it said more than {MOST_BYTES} bytes", where=where) from None
        finally:
            _end(process)
    if process.returncode != 0:
        said = errors.decode("utf-8", "replace").strip().splitlines()
        reason = said[-1][:300] if said else "it said nothing"
        raise HookFailed(f"{label}: it ended with status {process.returncode}: {reason}", where=where)
    return output


def _listen(process: subprocess.Popen[bytes], deadline: Deadline) -> tuple[bytes, bytes]:
    """What the program says until it ends. Raises TimeoutError, and OverflowError for more than MOST_BYTES."""
    heard: dict[int, bytearray] = {}
    with selectors.DefaultSelector() as ears:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                heard[pipe.fileno()] = bytearray()
                ears.register(pipe.fileno(), selectors.EVENT_READ)
        while ears.get_map():
            if deadline.passed:
                raise TimeoutError
            ended = process.poll() is not None
            ready = ears.select(min(_AFTERWARDS_S, deadline.left()))
            for key, _ in ready:
                piece = os.read(key.fd, 8192)
                heard[key.fd] += piece
                if not piece:
                    ears.unregister(key.fd)
                if len(heard[key.fd]) > MOST_BYTES:
                    raise OverflowError
            if ended and not ready:
                break
    output, errors = heard.values()
    return bytes(output), bytes(errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the program if it still runs, with everything that it started and that stayed in its session."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
