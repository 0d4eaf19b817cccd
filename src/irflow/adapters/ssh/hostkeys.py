"""Host keys: which ones are on record, whether the one shown is among them, and reading them for enrolment."""

from __future__ import annotations

import base64
import binascii
import hashlib
import socket
from collections.abc import Callable

import paramiko

from irflow.adapters.ssh.transport import Transport
from irflow.adapters.ssh.watchdog import Leash
from irflow.core.errors import ConfigurationError, HostKeyChanged, HostKeyUnknown, HostUnreachable
from irflow.core.inventory import Host

# The key exchange proves possession of one key, so each kind takes a connection of its own.
_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")
_KNOWN = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def fingerprint(key: str) -> str:
    """SHA-256 fingerprint of `TYPE BASE64`, as ssh-keygen prints it."""
    blob = base64.b64decode(key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def types_on_record(host: Host) -> tuple[str, ...]:
    """The host key algorithms to ask for: those of the keys on record and no others.

    Raises HostKeyUnknown when there is no usable key, ConfigurationError when one is not written as `TYPE BASE64`.
    """
    kinds: dict[str, None] = {}
    for key in host.host_keys:
        try:
            kind = key.split()[0]
            fingerprint(key)
        except (IndexError, binascii.Error):
            raise ConfigurationError(
                f"not a host key: {key[:40]!r}", where=host.name, hint="Write TYPE BASE64, as ssh-keyscan prints them"
            ) from None
        if kind == "ssh-rsa":
            kinds.update({"rsa-sha2-512": None, "rsa-sha2-256": None})
        elif kind in _KNOWN:
            kinds[kind] = None
    if not kinds:
        raise HostKeyUnknown(
            "no host key of a usable type is on record", where=host.name, hint=f"irflow hosts enrol {host.name}"
        )
    return tuple(kinds)


def check(host: Host, shown: paramiko.PKey) -> None:
    """Compare the key that the host has just proved to hold. Raises HostKeyChanged with both fingerprints."""
    text = _text(shown)
    if text not in _on_record(host):
        raise changed(host, (text,))


def changed(host: Host, shown: tuple[str, ...]) -> HostKeyChanged:
    """The error for a host that shows other keys than those on record; shown: `TYPE BASE64`, empty when not known."""
    theirs = ", ".join(f"{key.split()[0]} {fingerprint(key)}" for key in shown) or "keys of other types only"
    ours = ", ".join(f"{key.split()[0]} {fingerprint(key)}" for key in _on_record(host))
    return HostKeyChanged(
        f"the host showed {theirs}; on record: {ours}",
        where=host.name,
        hint="Somebody may be in between. If the host was rebuilt, compare on its console and run "
        f"irflow hosts enrol {host.name}",
    )


def read(host: Host, leash: Leash, dial: Callable[[], socket.socket | paramiko.Channel]) -> tuple[str, ...]:
    """The keys a host shows, one per type, as `TYPE BASE64`; nothing is logged in.

    dial: makes one connection to the host's SSH port. Raises HostUnreachable.
    """
    found = [key for kind in _KINDS if (key := _read_one(kind, leash, dial)) is not None]
    if not found:
        raise HostUnreachable(
            "an SSH server with an ed25519, ECDSA or RSA host key did not answer",
            where=host.name,
            hint="Check address, port and network",
        )
    return tuple(found)


def _read_one(kind: str, leash: Leash, dial: Callable[[], socket.socket | paramiko.Channel]) -> str | None:
    transport = Transport(dial(), (kind,))
    transport.banner_timeout = leash.left()
    try:
        with leash.cutting(transport.sever):
            transport.start_client(timeout=leash.left())
            return _text(transport.get_remote_server_key())
    except (paramiko.SSHException, EOFError, OSError):
        return None  # no key of this type, or no answer; the caller tells which
    finally:
        transport.end()


def _on_record(host: Host) -> list[str]:
    return [" ".join(key.split()[:2]) for key in host.host_keys]


def _text(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"
