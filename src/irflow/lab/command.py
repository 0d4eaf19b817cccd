"""Running one program to its end or its deadline, with everything it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from irflow.core.errors import DeadlineExceeded, ServiceMissing

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOST_UMASK = 0o022
HOST_ENVIRONMENT: Mapping[str, str] = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def program(name: str) -> str:
    """Full path of a program. Raises ServiceMissing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PATH}")
    if found is None:
        raise ServiceMissing(f"the program {name} is missing", hint="See: irflow doctor")
    return found


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None,
    timeout_s: float,
    where: str,
    environment: Mapping[str, str],
) -> subprocess.CompletedProcess[bytes]:
    """Run argv with `stdin`; both outputs are captured. Raises DeadlineExceeded after killing its process group."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
        umask=HOST_UMASK,
    ) as child:
        try:
            out, err = child.communicate(stdin, timeout=timeout_s)
        except BaseException as error:  # also Ctrl-C: nothing of the command may stay
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise DeadlineExceeded(f"{argv[-1]!r} did not end within {timeout_s:g} s", where=where) from None
            raise
    return subprocess.CompletedProcess(list(argv), child.returncode, out, err)
