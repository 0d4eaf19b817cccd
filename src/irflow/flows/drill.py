"""The monthly drill as a flow: the same command that people run, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

TIMEOUT_S = 1800.0


@flow(name="drill", retries=0, persist_result=False)
def drill(scenario: str = "compromised-host", hosts: int = 1) -> State[Any]:
    """Attack lab hosts, respond with the production flow, and score it. The scorecard is in the run's log."""
    log = get_run_logger()
    done = subprocess.run(
        [sys.executable, "-m", "irflow", "drill", scenario, "--hosts", str(hosts)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    for line in (*done.stderr.splitlines(), *done.stdout.splitlines()):
        log.info("%s", line)
    if done.returncode == 0:
        return Completed(message="passed")
    return Failed(message=f"the drill ended with {done.returncode}: {done.stdout.strip().splitlines()[-1:]}")
