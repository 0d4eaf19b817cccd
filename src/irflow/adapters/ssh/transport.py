"""paramiko's Transport, made to end at once, to leave no thread behind and to keep quiet about closed channels."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from typing import Any

import paramiko
from paramiko.packet import Packetizer

# curve25519 first: the default hybrid exchange costs a login about 60 ms of client time (facts: peers, reading 4).
_KEX = (
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "mlkem768x25519-sha256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_DIGESTS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")

_DATA, _EOF, _CLOSE = 94, 96, 97  # RFC 4250, 4.1.2

# paramiko logs a traceback for every failure that is raised here as an error anyway. Lower it to see the protocol.
_LOG = "irflow.ssh.wire"
logging.getLogger(_LOG).setLevel(logging.CRITICAL)

END_S = 2.0
"""How long to wait for a connection's thread after it was cut; it needs milliseconds."""


class PromptSocket(socket.socket):
    """Acknowledges everything at once.

    sshd writes several small packets after the login, and Nagle's algorithm holds each back until the one before is
    acknowledged; a delayed acknowledgement then costs 40 ms per connection (RFC 1122, 4.2.3.2 and 4.2.3.4). The option
    does not stick (tcp(7)), so it is set again after every read.
    """

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As socket.recv."""
        data = super().recv(bufsize, flags)
        with contextlib.suppress(OSError):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


class _Packetizer(Packetizer):
    """Without the timer thread per handshake, which outlives a handshake that failed; the watchdog bounds it."""

    def start_handshake(self, timeout: float) -> None:
        """Nothing to start."""


class Transport(paramiko.Transport):
    """One SSH connection, over a TCP socket or over a channel of a jump host's connection."""

    # How often the reading thread looks whether it should end. It is always woken instead, by sever(), so idle
    # connections need not wake up ten times a second.
    _active_check_timeout = 5.0

    def __init__(self, sock: socket.socket | paramiko.Channel, key_types: tuple[str, ...]) -> None:
        super().__init__(sock, packetizer_class=_Packetizer)
        self.name = "irflow ssh"
        self.set_log_channel(_LOG)
        options = self.get_security_options()
        options.kex = tuple(one for one in _KEX if one in options.kex)
        options.ciphers = tuple(one for one in _CIPHERS if one in options.ciphers)
        options.digests = tuple(one for one in _DIGESTS if one in options.digests)
        options.key_types = key_types

    def open(self, kind: str, timeout_s: float, to: tuple[str, int] | None = None) -> paramiko.Channel:
        """A `session` or `direct-tcpip` channel that is never written to after its close. Raises as open_channel."""
        channel = self.open_channel(kind, dest_addr=to, src_addr=("127.0.0.1", 0) if to else None, timeout=timeout_s)
        channel.transport = _Gate(self, channel)  # type: ignore[assignment]  # stands in for the transport
        return channel

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        """Close a channel that opens after the caller has given up; paramiko would leave it open on the other side."""
        ours, theirs = message.get_int(), message.get_int()
        if self._channels.get(ours) is None:  # type: ignore[attr-defined]  # what the base class looks in
            goodbye = paramiko.Message()
            goodbye.add_byte(bytes([_CLOSE]))
            goodbye.add_int(theirs)
            self._send_message(goodbye)  # type: ignore[attr-defined]
            return
        message.rewind()
        super()._parse_channel_open_success(message)  # type: ignore[misc]

    def sever(self) -> None:
        """End the connection now, without waiting for anything: whoever uses it sees it end, and its thread ends."""
        if isinstance(self.sock, paramiko.Channel):
            self.sock.in_buffer.close()  # reads as the end of the stream; writing a goodbye could block
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Sever and wait for the thread."""
        self.sever()
        if self.ident is None:
            self.sock.close()  # the thread, which was never started, would have
        elif self is not threading.current_thread():
            self.join(END_S)


class _Gate:
    """Stands between a channel and its transport: nothing of the channel is sent after its close message.

    paramiko builds a message under the channel's lock and sends it outside; when the other end closes the channel in
    between, data follow the close. OpenSSH then drops the whole connection ("data packet referred to nonexistent
    channel"): with it every other script on the host, or every host behind the jump host.
    """

    def __init__(self, transport: Transport, channel: paramiko.Channel) -> None:
        self._transport = transport
        self._order = threading.Lock()
        self._closed = channel.closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send_user_message(self, message: paramiko.Message) -> None:
        kind = message.asbytes()[0]
        with self._order:
            if self._closed and kind in (_DATA, _EOF, _CLOSE):
                return
            self._closed = self._closed or kind == _CLOSE
            # A goodbye to a connection that is gone is no error: Transport.run would die of it half cleaned up.
            ignored = (EOFError, OSError, paramiko.SSHException) if kind in (_EOF, _CLOSE) else ()
            with contextlib.suppress(*ignored):
                self._transport._send_user_message(message)  # type: ignore[attr-defined]  # what Channel itself calls
