"""Making a lab without any privilege: one sshd per host on 127.0.1.N, all as the account that runs it.

It has one account, one file system, one process table and no firewall: it shows that SSH and the flows work, never
that a packet was dropped.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from irflow.lab import base, state
from irflow.lab.layout import MARKER, Layout, host_name
from irflow.lab.model import LabError, LabHost, Level, State
from irflow.lab.real import greets
from irflow.lab.sweep import alive, start_time

_FIRST_PORT = 2222
_PRIVILEGE_SEPARATION = Path("/run/sshd")
_READY_S = 20.0
MOST_HOSTS = 254

_SSHD = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
MaxStartups 200:30:400
MaxSessions 50
Subsystem sftp internal-sftp
SetEnv {mark}
"""


def account() -> str:
    """The one account of a loopback lab: whoever runs it."""
    return pwd.getpwuid(os.geteuid()).pw_name


def start(layout: Layout, name: str, level: Level, count: int) -> State:
    """Start `count` sshd and wait until each answers. Raises LabError, OSError, CalledProcessError."""
    if count > MOST_HOSTS:
        raise LabError(f"a loopback lab has at most {MOST_HOSTS} hosts, not {count}", where=name)
    state.write(layout, State(layout.id, name, level, ready=False))
    layout.keys.mkdir(parents=True, mode=0o700)
    for key in ("responder", "attacker"):
        base.make_key(layout.keys / key, f"{key}@lab")
    hosts = []
    port = _free_port(count)
    for index in range(count):
        hosts.append(_host(layout, index, port))
        state.write(layout, State(layout.id, name, level, ready=False, hosts=tuple(hosts)))
    (layout.files / "known_hosts").write_text("".join(f"[{h.address}]:{h.port} {h.host_key}\n" for h in hosts))
    _wait_ready(layout, hosts)
    done = State(layout.id, name, level, ready=True, hosts=tuple(hosts))
    state.write(layout, done)
    return done


def folder(layout: Layout, name: str) -> Path:
    """The directory that stands for a host's own files."""
    return layout.host("hosts", name)


def _host(layout: Layout, index: int, port: int) -> LabHost:
    name, address = host_name(index), _address(index)
    home = folder(layout, name)
    home.mkdir(parents=True)
    base.make_key(home / "host_key", name)
    keys = [(layout.keys / f"{key}.pub").read_text() for key in ("responder", "attacker")]
    (home / "authorized_keys").write_text("".join(keys))
    (home / "sshd_config").write_text(
        _SSHD.format(address=address, port=port, folder=home, mark=f"{MARKER}={layout.id}")
    )
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", ""))
    if program is None:
        raise LabError("no sshd", where=name, hint="apt-get install openssh-server")
    _privilege_separation()
    environment = {"PATH": os.defpath, MARKER: layout.id}
    argv = [program, "-f", str(home / "sshd_config"), "-E", str(home / "auth.log")]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() + "\n" + _log(home)).strip()
        raise LabError(f"sshd did not start: {said or f'exit status {done.returncode}'}", where=name)
    pid = _pid(home, name)
    public = " ".join((home / "host_key.pub").read_text().split()[:2])
    return LabHost(name, index, address, "", port, public, pid, start_time(pid))


def _pid(home: Path, name: str) -> int:
    """Wait for the daemon to say its process id."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        try:
            return int((home / "pid").read_text())
        except (FileNotFoundError, ValueError):
            time.sleep(0.005)
    raise LabError(f"sshd did not start: {_log(home) or 'nothing in its log'}", where=name)


def _privilege_separation() -> None:
    """An sshd that is root insists on this folder. Debian makes it when its own sshd starts: never in a container."""
    if os.geteuid() == 0 and not _PRIVILEGE_SEPARATION.exists():
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755)


def _log(home: Path) -> str:
    log = home / "auth.log"
    return log.read_text(errors="replace").strip() if log.exists() else ""


def _wait_ready(layout: Layout, hosts: Sequence[LabHost]) -> None:
    deadline = time.monotonic() + _READY_S + 0.2 * len(hosts)
    for host in hosts:
        while not greets(host.address, host.port, 2.0):
            if time.monotonic() > deadline or not alive(host.pid, host.started):
                said = _log(folder(layout, host.name)) or "nothing in its log"
                raise LabError(f"sshd did not start: {said}", where=host.name)
            time.sleep(0.02)


def _address(index: int) -> str:
    return f"127.0.1.{index + 1}"


def _free_port(count: int) -> int:
    """The first port from 2222 up that is free on every address the lab needs."""
    for port in range(_FIRST_PORT, _FIRST_PORT + 200):
        if all(_free(_address(index), port) for index in range(count)):
            return port
    raise LabError("no free port from 2222 to 2421 on 127.0.1.1 and up", hint="Stop another lab: irflow lab down")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
