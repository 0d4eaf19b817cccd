"""`irflow up` as a person starts it: it says where everything is, comes back after a kill, and stops cleanly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from irflow.drill.installation import free_port
from tests.cli.conftest import run
from tests.services.irflow_site import until

START_S, STOP_S, BACK_S = 60.0, 30.0, 30.0


@dataclass
class Up:
    """The running command. said: its standard output so far."""

    home: Path
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def url(self, name: str) -> str:
        found = re.search(rf"^{name}\s+(?:POST )?(http\S+)", "".join(self.said), re.MULTILINE)
        assert found, "".join(self.said)
        return found[1]

    def pid(self, service: str) -> int:
        found = re.search(rf"^{service}\s+(\d+)\s", "".join(self.said), re.MULTILINE)
        assert found, "".join(self.said)
        return int(found[1])


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("up") / "home"
    assert run(home, "init").code == 0
    path = home / "irflow.yaml"
    ports = {"web_port": free_port(), "prefect_port": free_port()}
    kept = [line for line in path.read_text().splitlines() if not line.startswith(tuple(ports))]
    path.write_text("\n".join([*kept, *(f"{name}: {port}" for name, port in ports.items())]) + "\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "irflow", "--home", str(home), "up"], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    running = Up(home, process)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            running.said.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield running
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=STOP_S)


def test_it_says_where_alerts_go_and_where_to_look(up: Up) -> None:
    assert httpx.get(up.url("page") + "health", trust_env=False).status_code == 200
    assert "Operator token" in httpx.get(up.url("page"), trust_env=False, follow_redirects=True).text
    assert httpx.get(up.url("Prefect") + "/api/health", trust_env=False).status_code in (200, 401)
    refused = httpx.post(up.url("alerts").replace("SOURCE", "detection"), content=b"{}", trust_env=False)
    assert refused.status_code == 401


def test_doctor_sees_it_running(up: Up) -> None:
    found = {one["what"]: one for one in json.loads(run(up.home, "doctor", "--json").out)}
    for name in ("web", "Prefect", "responder"):
        assert found[name]["passed"], found[name]


def test_a_second_one_is_refused_with_the_pid_of_the_first(up: Up) -> None:
    second = run(up.home, "up", "--check")
    assert second.code != 0
    assert "Traceback" not in second.err
    assert str(up.process.pid) in second.err or "already" in second.err


def test_a_part_that_dies_comes_back(up: Up) -> None:
    psutil.Process(up.pid("web")).kill()
    health = up.url("page") + "health"

    def answers() -> bool:
        try:
            return httpx.get(health, trust_env=False, timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    until(lambda: not psutil.pid_exists(up.pid("web")), 5, "the old web process is gone")
    until(answers, BACK_S, "web answers again")


def test_ctrl_c_ends_every_process_of_it(up: Up) -> None:
    family = psutil.Process(up.process.pid).children(recursive=True)
    assert len(family) >= 4
    up.process.send_signal(signal.SIGINT)
    up.process.communicate(timeout=STOP_S)
    assert up.process.returncode in (0, 130)
    until(lambda: not any(one.is_running() for one in family), 5, "all are gone")
