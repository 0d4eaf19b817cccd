"""The monthly drill as a flow: the same command that a person would give, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from irflow.drill.scenarios import names
from irflow.flows.plain import plain
from irflow.supervisor.child import die_with_parent

MOST_S = 900.0
"""A drill takes less than a minute; one that hangs is ended, with all that it started."""
GRACE_S = 20.0

Scenario = Annotated[
    str, Field(title="Scenario", description="Which attack is staged.", json_schema_extra={"enum": list(names())})
]
Hosts = Annotated[
    int, Field(ge=0, le=50, title="Hosts", description="How many lab hosts are attacked; 0: as few as it takes.")
]


@flow(name="drill", retries=0, persist_result=False)
def drill(scenario: Scenario = "compromised-host", hosts: Hosts = 0) -> State[Any]:
    """Attack lab hosts on this machine, contain them, bring them back, and score it."""
    if scenario not in names():  # Prefect has checked it, if it was asked to
        return Failed(message=plain(f"no scenario {scenario!r}; there is {', '.join(names())}"))
    with tempfile.TemporaryDirectory(prefix="irflow-drill-flow-") as folder:
        card = Path(folder) / "scorecard.json"
        many = ["--hosts", str(hosts)] if hosts else []
        code, last = run_command(["drill", scenario, *many, "--json", str(card)], MOST_S)
        found = json.loads(card.read_text()) if card.exists() else {}
    checks = [
        {name: plain(one.get(name)) for name in ("name", "before", "after", "passed")}
        for one in found.get("checks", [])
    ]
    if checks:
        create_table_artifact(checks, key="drill-checks", description="Checks from outside, before and after")
    if code:
        failed = ", ".join(one["name"] for one in checks if one["passed"] != "True")
        return Failed(message=plain(f"exit {code}: {failed or last}"))
    seconds = found.get("time_to_contain_s")
    return Completed(message=plain(f"passed; contained in {seconds:.2f} s" if seconds else "passed"))


def run_command(arguments: list[str], most_s: float) -> tuple[int, str]:
    """Run `irflow ARGUMENTS` in a session of its own; (exit code, last line of its standard error).

    most_s: after so many seconds it is asked to end, then killed, with everything in its process group.
    It gets neither this installation nor Prefect's settings: a drill brings its own.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "IRFLOW_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "irflow", *arguments],
        stdin=subprocess.DEVNULL, stdout=sys.stdout.fileno(), stderr=subprocess.PIPE, env=environment,
        start_new_session=True, preexec_fn=die_with_parent(os.getpid(), signal.SIGTERM),
    )  # fmt: skip
    try:
        _, stderr = process.communicate(timeout=most_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        code, stderr = 124, f"ended after {most_s:.0f} s".encode()
    finally:
        _end(process)
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return code, lines[-1] if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the group to end, then make it."""
    for number, seconds in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
            process.communicate(timeout=seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
