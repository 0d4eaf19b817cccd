"""Opening one SSH connection: socket or jump channel, host key, login."""

from __future__ import annotations

import contextlib
import io
import socket
from pathlib import Path

import paramiko

from irflow.adapters.netns import socket_in
from irflow.adapters.ssh import hostkeys
from irflow.adapters.ssh.watchdog import Leash
from irflow.core.errors import ConfigurationError, HostUnreachable, IrflowError, LoginFailed
from irflow.core.inventory import Host
from irflow.core.secret import SecretRef, SecretStore

# curve25519 costs a fraction of the default key exchange's client time (facts: peers, reading 4).
_KEX = ("curve25519-sha256@libssh.org", "curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256")
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
_KEY_CLASSES = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class _PromptSocket(socket.socket):
    """Acknowledges everything at once.

    sshd writes several small packets after the login, and Nagle's algorithm holds each back until the one before is
    acknowledged; a delayed acknowledgement then costs 40 ms per connection (RFC 1122, 4.2.3.2 and 4.2.3.4). The option
    does not stick (tcp(7)), so it is set again after every read.
    """

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        with contextlib.suppress(OSError):
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


def open_socket(host: Host, leash: Leash) -> socket.socket:
    """A connected TCP socket to a host that needs no jump. Raises HostUnreachable."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise HostUnreachable(f"{host.address} does not resolve: {error.strerror}", where=host.name) from None
    sock = _PromptSocket(fileno=socket_in(host.netns, family).detach())
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A pulled cable ends the connection by itself; keep-alives alone do not (facts: lab, section 4).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(leash.left() * 1000))
        sock.settimeout(leash.left())
        sock.connect(address)
    except OSError as error:
        sock.close()
        why = "no answer" if isinstance(error, TimeoutError) else str(error.strerror or error).lower()
        raise HostUnreachable(
            f"{host.address} port {host.port}: {why}", where=host.name, hint="Check network, address and firewall"
        ) from None
    return sock


def open_transport(
    host: Host, sock: socket.socket | paramiko.Channel, secrets: SecretStore, leash: Leash
) -> paramiko.Transport:
    """Greet, check the host key, log in. Raises HostKeyUnknown, HostKeyChanged, LoginFailed, HostUnreachable."""
    types = hostkeys.types_on_record(host)
    key = _key(host, secrets)
    transport = paramiko.Transport(sock)
    transport.daemon = True
    options = transport.get_security_options()
    options.key_types = types
    options.kex = tuple(one for one in _KEX if one in options.kex)
    options.ciphers = tuple(one for one in _CIPHERS if one in options.ciphers)
    transport.banner_timeout = transport.auth_timeout = transport.channel_timeout = leash.left()
    try:
        transport.start_client(timeout=leash.left())
        hostkeys.check(host, transport.get_remote_server_key())
        transport.auth_publickey(host.user, key)
    except IrflowError:
        transport.close()
        raise
    except paramiko.AuthenticationException as error:
        transport.close()
        if leash.fired:
            raise HostUnreachable(f"no answer to the login as {host.user} in time", where=host.name) from None
        raise LoginFailed(
            f"{host.user} was refused: {error}", where=host.name, hint="Put the responder's public key on the host"
        ) from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        transport.close()
        why = "not in time" if leash.fired else f"{type(error).__name__} {error}".strip()
        raise HostUnreachable(f"SSH did not come about: {why}", where=host.name) from None
    return transport


def _key(host: Host, secrets: SecretStore) -> paramiko.PKey:
    """The private key, parsed in memory, with its certificate where the host has one."""
    text = secrets.resolve(SecretRef.parse(host.key)).reveal().decode("ascii", "replace") + "\n"
    for kind in _KEY_CLASSES:
        try:
            key = kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError, IndexError):
            continue
        if host.certificate:
            key.load_certificate(str(Path(host.certificate)))
        return key
    raise ConfigurationError(
        "not an unencrypted ed25519, ECDSA or RSA private key", where=host.key, hint="ssh-keygen -t ed25519 -N ''"
    )
