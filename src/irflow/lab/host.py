"""One lab host: own namespaces, root, devices and sshd. Runs only in the process that becomes the host."""

from __future__ import annotations

import os
from pathlib import Path

from irflow.lab import syscalls as sys_
from irflow.lab.layout import GATEWAY, MARKER, Layout, host_address, host_address6

# Capabilities of a plain container plus what an administrator of one machine needs: chown .. setpcap, net_bind,
# net_admin, net_raw, sys_chroot, ptrace, nice, resource, mknod, audit (linux/capability.h).
_KEEP = frozenset({*range(9), 10, 12, 13, 18, 19, 23, 24, 27, 29, 30})
_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The host's process 1: it starts the network and sshd, then only reaps what is orphaned.
_INIT = """\
set -eu
ip -batch - <<BATCH
link set lo up
link set eth0 up
addr add {v4}/16 dev eth0
addr add {v6}/64 dev eth0 nodad
route add default via {gateway}
BATCH
mkdir -p /run/sshd /run/lock
: >/run/utmp
/usr/sbin/sshd -E /var/log/auth.log
while :; do sleep 1000000 & wait $! || :; done
"""


def become_host(layout: Layout, index: int, name: str, report: int, gate: int) -> None:
    """Turn the calling process into the host; never returns normally.

    report: descriptor that gets the line `index pid`. gate: descriptor from which one byte means that eth0 is there;
    its end means that the lab's maker is gone, and the host ends too. Raises OSError.
    """
    os.setsid()
    sys_.unshare(
        sys_.CLONE_NEWNS | sys_.CLONE_NEWUTS | sys_.CLONE_NEWIPC | sys_.CLONE_NEWPID | sys_.CLONE_NEWNET,
    )
    pid = os.fork()
    if pid:
        os.write(report, f"{index} {pid}\n".encode())
        os._exit(0)
    _root(layout, name)
    sys_.change_root(layout.host("mnt", name))
    sys_.set_hostname(name)
    if not os.read(gate, 1):
        os._exit(1)
    sys_.drop_capabilities(_KEEP)
    script = _INIT.format(v4=host_address(index), v6=host_address6(index), gateway=GATEWAY)
    _console()
    environment = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", MARKER: layout.id}
    os.execve("/bin/sh", ["init", "-c", script], environment)


def _root(layout: Layout, name: str) -> None:
    """Mount the host's file systems below its `mnt` directory."""
    root = layout.host("mnt", name)
    sys_.mount("none", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    extra = ",userxattr" if layout.inside else ""
    lower = f"{layout.host('own', name)}:{layout.base}"
    for target, below, part in ((root, lower, ""), (root / "usr", f"{layout.base_usr}:/usr", "-usr")):
        upper, work = layout.host(f"up{part}", name), layout.host(f"wk{part}", name)
        sys_.mount("overlay", target, "overlay", 0, f"lowerdir={below},upperdir={upper},workdir={work}{extra}")
    plain = sys_.MS_NOSUID | sys_.MS_NODEV
    sys_.mount("proc", root / "proc", "proc", plain | sys_.MS_NOEXEC)
    # Only the network's settings are the host's own; all others would be the machine's.
    sys_.mount(str(root / "proc/sys/net"), root / "proc/sys/net", None, sys_.MS_BIND)
    sys_.mount(str(root / "proc/sys"), root / "proc/sys", None, sys_.MS_BIND | sys_.MS_REC)
    sys_.mount("none", root / "proc/sys", None, sys_.MS_BIND | sys_.MS_REMOUNT | sys_.MS_RDONLY | plain)
    sys_.mount("sysfs", root / "sys", "sysfs", sys_.MS_RDONLY | plain | sys_.MS_NOEXEC)
    sys_.mount("tmpfs", root / "run", "tmpfs", plain, "mode=755,size=32m")
    _devices(layout, root / "dev")
    for hidden in ("sysrq-trigger", "kcore"):
        if (root / "proc" / hidden).exists():
            sys_.mount(str(root / "dev/null"), root / "proc" / hidden, None, sys_.MS_BIND)


def _devices(layout: Layout, dev: Path) -> None:
    sys_.mount("tmpfs", dev, "tmpfs", sys_.MS_NOSUID, "mode=755,size=1m")
    os.umask(0)
    for name, major, minor in _DEVICES:
        if layout.inside:  # a user namespace may use devices but not make them
            (dev / name).touch()
            sys_.mount(f"/dev/{name}", dev / name, None, sys_.MS_BIND)
        else:
            os.mknod(dev / name, 0o20666, os.makedev(major, minor))
    os.umask(0o22)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")):
        (dev / name).symlink_to(target)
    for name, number in (("stdout", 1), ("stderr", 2)):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")
    sys_.mount("devpts", dev / "pts", "devpts", sys_.MS_NOSUID | sys_.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    sys_.mount("tmpfs", dev / "shm", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=1777,size=64m")


def _console() -> None:
    """Standard input from nowhere, output to the host's own console log, all other descriptors closed."""
    nothing = os.open("/dev/null", os.O_RDWR)
    log = os.open("/var/log/console", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, 4096)
