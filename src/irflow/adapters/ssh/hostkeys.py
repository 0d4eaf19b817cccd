"""Host keys: which ones are on record, whether the one shown is among them, and reading them for enrolment."""

from __future__ import annotations

import base64
import hashlib
import socket

import paramiko

from irflow.adapters.netns import socket_in
from irflow.adapters.ssh.watchdog import WATCHDOG
from irflow.core.errors import HostKeyChanged, HostKeyUnknown, HostUnreachable
from irflow.core.inventory import Host

SCAN_TIMEOUT_S = 8.0
_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")


def fingerprint(key: str) -> str:
    """SHA-256 fingerprint of `TYPE BASE64`, as ssh-keygen prints it."""
    blob = base64.b64decode(key.split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def types_on_record(host: Host) -> tuple[str, ...]:
    """The host key algorithms to offer: only those of keys on record. Raises HostKeyUnknown when there are none."""
    if not host.host_keys:
        raise HostKeyUnknown("no host key on record", where=host.name, hint=f"irflow hosts enrol {host.name}")
    kinds: list[str] = []
    for key in host.host_keys:
        kind = key.split()[0]
        kinds += ["rsa-sha2-512", "rsa-sha2-256"] if kind == "ssh-rsa" else [kind]
    return tuple(dict.fromkeys(kinds))


def check(host: Host, shown: paramiko.PKey) -> None:
    """Compare the key that the host showed. Raises HostKeyChanged with both fingerprints."""
    text = f"{shown.get_name()} {shown.get_base64()}"
    known = [" ".join(key.split()[:2]) for key in host.host_keys]
    if text not in known:
        raise HostKeyChanged(
            f"the host showed {fingerprint(text)}, on record is {', '.join(map(fingerprint, known))}",
            where=host.name,
            hint=f"If the host was rebuilt: irflow hosts enrol {host.name}; otherwise somebody is in between",
        )


def scan_host_keys(host: Host) -> tuple[str, ...]:
    """The keys a host shows, one per type, as `TYPE BASE64`; nothing is logged in. Raises HostUnreachable."""
    found = [key for kind in _KINDS if (key := _scan(host, kind)) is not None]
    if not found:
        raise HostUnreachable("no SSH server answered", where=host.name, hint="Check address, port and network")
    return tuple(found)


def _scan(host: Host, kind: str) -> str | None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host.address, host.port, type=socket.SOCK_STREAM)[0]
        with socket_in(host.netns, family) as sock:
            sock.settimeout(SCAN_TIMEOUT_S)
            sock.connect(address)
            with WATCHDOG.watch(sock, SCAN_TIMEOUT_S):
                transport = paramiko.Transport(sock)
                transport.get_security_options().key_types = (kind,)
                try:
                    transport.start_client(timeout=SCAN_TIMEOUT_S)
                    key = transport.get_remote_server_key()
                finally:
                    transport.close()
        return f"{key.get_name()} {key.get_base64()}"
    except (OSError, EOFError, paramiko.SSHException):
        return None
