"""What holds for every test: state of its own, no word to the outside, and nothing left running at the end."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator

import psutil
import pytest

from irflow.core import revealed

_MARK = "IRFLOW_TEST_RUN"
_STATE = tempfile.mkdtemp(prefix="irflow-test-")


def _own_environment() -> None:
    """Take the caller's settings away and put harmless ones in their place, for this process and all it starts.

    Done when this file is read and not in a fixture: Prefect reads its settings when it is imported.
    """
    for name in [name for name in os.environ if name.startswith(("IRFLOW_", "PREFECT_"))]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.pop("COLUMNS", None)  # a table is as wide as in a pipe, also below xdist
    # What was started in the background of a shell ignores Ctrl-C, and so would all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(
        {
            _MARK: uuid.uuid4().hex,
            "IRFLOW_HOME": os.path.join(_STATE, "irflow"),  # noqa: PTH118 - an environment holds text
            "PREFECT_HOME": os.path.join(_STATE, "prefect"),  # noqa: PTH118
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NO_PROXY": "localhost,127.0.0.1,::1",
            "NO_COLOR": "1",
        }
    )


_own_environment()


def pytest_unconfigure() -> None:
    """Remove the state of this run."""
    shutil.rmtree(_STATE, ignore_errors=True)


def _started_here() -> list[psutil.Process]:
    """Every process that carries this run's mark, however far it has moved away from its parent."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(_MARK) == os.environ[_MARK]:
                found.append(process)
        except psutil.Error:  # gone meanwhile, or another user's
            continue
    return found


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return f"{process.pid} (gone)"


@pytest.fixture(autouse=True)
def no_secret_of_another_test() -> Iterator[None]:
    """What one test has for a secret may be an ordinary word of the next."""
    yield
    revealed._register.clear()


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail the run if a test left a process behind, and end that process."""
    yield
    _, left = psutil.wait_procs(_started_here(), timeout=5)
    # Python's own, which ends with this process.
    left = [one for one in left if "multiprocessing.resource_tracker" not in _describe(one)]
    if left:
        names = "\n  ".join(_describe(one) for one in left)
        for one in left:
            one.kill()
        pytest.fail(f"these processes outlived the tests that started them:\n  {names}")
