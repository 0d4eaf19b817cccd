"""The few Linux calls that Python 3.11 does not offer: mounts and namespaces."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

# Flags of mount(2) and umount2(2), from linux/mount.h.
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2

# Flags of unshare(2) and setns(2), from linux/sched.h.
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: Path | str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """Mount `source` on `target`; `kind` is the file system, `data` its options. Raises OSError."""
    _check(
        _LIBC.mount(
            source.encode(),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            None if data is None else data.encode(),
        ),
        f"mount {target}",
    )


def unmount(target: Path | str) -> bool:
    """Detach the topmost mount on `target`; False when there was none."""
    return bool(_LIBC.umount2(os.fsencode(target), MNT_DETACH) == 0)


def unshare(flags: int) -> None:
    """Give the calling process new namespaces. Raises OSError."""
    _check(_LIBC.unshare(flags), "unshare")


def change_root(new_root: Path) -> None:
    """Make `new_root` the root of the mount namespace and detach the old one. Raises OSError.

    `new_root` must hold an empty directory `oldroot`.
    """
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root: no call number known for {os.uname().machine}")
    os.chdir(new_root)
    _check(_LIBC.syscall(ctypes.c_long(number), b".", b"oldroot"), "pivot_root")
    os.chdir("/")
    _check(_LIBC.umount2(b"/oldroot", MNT_DETACH), "umount /oldroot")


def set_hostname(name: str) -> None:
    """Name the UTS namespace. Raises OSError."""
    _check(_LIBC.sethostname(name.encode(), len(name.encode())), "sethostname")


def drop_capabilities(keep: frozenset[int]) -> None:
    """Take every capability that is not in `keep` out of the bounding set."""
    for capability in range(41):
        if capability not in keep:
            _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


@contextmanager
def in_network(namespace: Path | None) -> Iterator[None]:
    """Run a block with the calling thread in a network namespace; None changes nothing.

    Sockets created in the block belong to that namespace for ever; other threads are not affected.
    Raises OSError when the namespace is gone.
    """
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        away = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_LIBC.setns(away, CLONE_NEWNET), f"setns {namespace}")
        finally:
            os.close(away)
        try:
            yield
        finally:
            _check(_LIBC.setns(home, CLONE_NEWNET), "setns home")
    finally:
        os.close(home)
