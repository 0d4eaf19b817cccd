"""One script over one channel: send it, read all it says, learn how it ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import paramiko

from irflow.adapters.ssh.watchdog import Leash, patience

STDERR_BYTES = 64 << 10
"""Of standard error only so much of the end is kept: people read the last lines."""

_CHUNK = 1 << 16
_REQUEST = 98  # RFC 4254, section 6: SSH_MSG_CHANNEL_REQUEST


class TooMuchOutput(Exception):
    """Standard output grew beyond the cap."""


class NoStatus(Exception):
    """The channel ended, and no exit status came."""


class SinkFailed(Exception):
    """Whoever takes the output raised error; it says nothing about the connection."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


Sink = Callable[[bytes], object]


@dataclass
class Said:
    """What a script has said so far, but for its output, which was handed on. status: None until it is known."""

    status: int | None = None
    stdout_bytes: int = 0
    errors: deque[bytes] = field(default_factory=deque)
    errors_bytes: int = 0

    @property
    def stderr(self) -> bytes:
        """What is kept of standard error."""
        return b"".join(self.errors)


def exchange(channel: paramiko.Channel, line: str, script: bytes, leash: Leash, max_output: int, sink: Sink) -> Said:
    """Run a command line with a script on its standard input; returns when its output and its exit status are there.

    sink: gets the output, piece by piece, in this thread. What is not taken from the channel is not sent for: SSH's
    window (RFC 4254, section 5.2) holds up the script while the sink is busy.
    Raises TimeoutError at the deadline, TooMuchOutput, NoStatus, SinkFailed, and paramiko's own errors when the
    connection ends.
    """
    bell = _Bell()
    channel.in_buffer.set_event(bell)  # type: ignore[arg-type]  # set and clear are all that is asked of it
    channel.in_stderr_buffer.set_event(bell)  # type: ignore[arg-type]
    with leash.cutting(bell.set, channel.get_transport().sever):  # type: ignore[attr-defined]
        _request(channel, line)
        _send(channel, script, leash)
        said = Said()
        while True:
            bell.wait(leash.left())
            ended = channel.closed or bool(channel.eof_received)  # before the last look into the buffers
            _drain(channel, said, leash, max_output, sink)
            if leash.passed:
                raise TimeoutError
            if ended:
                break
        channel.status_event.wait(leash.left())
        if channel.exit_status >= 0:
            said.status = channel.exit_status
            return said
        raise TimeoutError if leash.passed else NoStatus


def _request(channel: paramiko.Channel, line: str) -> None:
    """Ask for the command without waiting for the answer, which saves a round trip; a refusal closes the channel."""
    message = paramiko.Message()
    message.add_byte(bytes([_REQUEST]))
    message.add_int(channel.remote_chanid)
    message.add_string("exec")
    message.add_boolean(True)
    message.add_string(line)
    channel.transport._send_user_message(message)  # type: ignore[union-attr]  # as Channel.exec_command does


def _send(channel: paramiko.Channel, script: bytes, leash: Leash) -> None:
    """Write standard input and its end; a command that ends without reading it all is no error."""
    rest = memoryview(script)
    try:
        while rest:
            channel.settimeout(leash.left())
            sent = channel.send(bytes(rest[:_CHUNK]))
            if sent == 0:
                return
            rest = rest[sent:]
        channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:
        return  # closed by the other side; what it said tells why


def _drain(channel: paramiko.Channel, said: Said, leash: Leash, max_output: int, sink: Sink) -> None:
    """Take what has arrived on both streams. Both are always read, so that neither holds up the other."""
    while channel.recv_ready() and not leash.passed:
        piece = channel.recv(_CHUNK)
        said.stdout_bytes += len(piece)
        if said.stdout_bytes > max_output:
            raise TooMuchOutput
        _hand_on(piece, leash, sink)
    while channel.recv_stderr_ready() and not leash.passed:
        piece = channel.recv_stderr(_CHUNK)
        said.errors.append(piece)
        said.errors_bytes += len(piece)
        while said.errors_bytes - len(said.errors[0]) >= STDERR_BYTES:
            said.errors_bytes -= len(said.errors.popleft())


def _hand_on(piece: bytes, leash: Leash, sink: Sink) -> None:
    """A sink that is slow at the deadline must not cost others the connection: it comes back by itself."""
    with leash.cutting(patience):
        try:
            sink(piece)
        except Exception as error:
            raise SinkFailed(error) from error


class _Bell:
    """Rings when either stream has data or ends. A buffer that was emptied does not silence it for the other."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ring."""
        self._event.set()

    def clear(self) -> None:
        """What a buffer calls when it is empty: nothing."""

    def wait(self, timeout_s: float) -> None:
        """Wait until it rings, and be ready for the next time."""
        self._event.wait(timeout_s)
        self._event.clear()
