"""Making a lab of real hosts: the levels root and userns."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import irflow
from irflow.lab import base, fabric, state
from irflow.lab.layout import MARKER, Layout, host_address, host_address6, host_name
from irflow.lab.model import LabError, LabHost, Level, State
from irflow.lab.sweep import alive, start_time
from irflow.lab.syscalls import MS_NODEV, in_network, mount

_READY_S = 30.0  # for the first host; every further one adds a bit


def start(layout: Layout, name: str, level: Level, count: int) -> State:
    """Make `count` hosts and wait until each one's sshd answers. Raises LabError, OSError, CalledProcessError.

    The state file is written before anything else, so that whatever exists can be found and removed.
    """
    keeper = _keep_namespace(layout) if layout.inside else (0, 0)
    state.write(layout, State(layout.id, name, level, False, (), *keeper))
    layout.files.mkdir()
    mount(f"irl-{layout.id}", layout.files, "tmpfs", MS_NODEV, "size=4g,mode=711")
    base.build(layout)
    fabric.build(layout)
    names = [host_name(index) for index in range(count)]
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda index: _identity(layout, index, names[index]), range(count)))
    hosts = _spawn(layout, names, keys)
    (layout.files / "known_hosts").write_text(
        "".join(f"{host.address},{host.address6},{host.name} {host.host_key}\n" for host in hosts)
    )
    _wait_ready(layout, hosts)
    done = State(layout.id, name, level, True, hosts, *keeper)
    state.write(layout, done)
    return done


def _keep_namespace(layout: Layout) -> tuple[int, int]:
    """Start the process that holds the user namespace with its mounts open: `irflow lab exec` goes in by it."""
    idle = subprocess.Popen(
        ["sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={"PATH": os.defpath, MARKER: layout.id},
    )
    idle.returncode = 0  # left to itself: it ends with the lab
    return idle.pid, start_time(idle.pid)


def _identity(layout: Layout, index: int, name: str) -> str:
    """Write what makes a host itself; returns its public host key."""
    for part in ("up", "up-usr", "wk", "wk-usr", "mnt"):
        layout.host(part, name).mkdir(parents=True, exist_ok=True)
    etc = layout.host("own", name) / "etc"
    (etc / "ssh").mkdir(parents=True)
    (etc / "hostname").write_text(f"{name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{host_address(index)} {name}\n")
    (etc / "resolv.conf").write_text("")
    (etc / "machine-id").write_text(os.urandom(16).hex() + "\n")
    base.make_key(etc / "ssh/ssh_host_ed25519_key", name)
    return " ".join((etc / "ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])


def _spawn(layout: Layout, names: Sequence[str], keys: Sequence[str]) -> tuple[LabHost, ...]:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(Path(irflow.__file__).parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        MARKER: layout.id,
    }
    command = [sys.executable, "-m", "irflow.lab.spawn", str(layout.run_dir), "1" if layout.inside else "0", *names]
    with (layout.files / "spawn.log").open("wb") as log:
        maker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
    with maker:
        if maker.stdin is None or maker.stdout is None:
            raise LabError("the process that makes hosts has no pipes", where=str(layout.run_dir))
        # Waiting hosts keep this pipe open: read as many lines as there are hosts, not to its end.
        lines = [line.split() for line in islice(maker.stdout, len(names))]
        pids = {int(index): int(pid) for index, pid in lines}
        if len(pids) == len(names):
            hosts = tuple(
                LabHost(name, i, host_address(i), host_address6(i), 22, keys[i], pids[i], start_time(pids[i]))
                for i, name in enumerate(names)
            )
            fabric.plug_in(layout, [host.pid for host in hosts])
            maker.stdin.write("go\n")
            maker.stdin.close()
            if maker.wait(timeout=30) == 0:
                return hosts
        maker.stdin.close()
    reason = (layout.files / "spawn.log").read_text(errors="replace").strip()
    raise LabError(f"hosts did not start: {reason}", where=str(layout.run_dir))


def _wait_ready(layout: Layout, hosts: Sequence[LabHost]) -> None:
    deadline = time.monotonic() + _READY_S + 0.2 * len(hosts)
    with in_network(layout.netns("mgmt")):
        for host in hosts:
            while not greets(host.address, host.port, 2.0):
                console = layout.host("up", host.name) / "var/log/console"
                said = console.read_text(errors="replace").strip() if console.exists() else "nothing on its console"
                if not alive(host.pid, host.started):
                    raise LabError(f"the host ended while it started: {said}", where=host.name)
                if time.monotonic() > deadline:
                    raise LabError(f"no SSH greeting in time: {said}", where=host.name)
                time.sleep(0.02)


def greets(address: str, port: int, timeout_s: float) -> bool:
    """Whether an SSH server there says hello within timeout_s seconds."""
    try:
        with socket.create_connection((address, port), timeout_s) as link:
            return link.recv(3) == b"SSH"
    except OSError:
        return False
